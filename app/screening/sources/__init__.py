"""Where crystals come from: folders, archives, tables, one form for all."""
