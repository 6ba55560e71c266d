"""The prediction log: tables, migrations, the repository that asks them, the background writer."""
