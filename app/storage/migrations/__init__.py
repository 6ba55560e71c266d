"""Alembic's folder: the environment and one file per revision of the log's schema."""
