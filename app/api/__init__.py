"""HTTP: routes that parse, call and shape; nothing is computed here."""
