"""Alembic's folder: the environment and one file a revision of the log's schema."""
