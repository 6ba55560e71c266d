"""What the command line is made of: files in, a local or remote caller, tables out."""
