"""The prediction log: tables, migrations, the repository, the background writer and its spool."""
