"""Revisions of the log's schema, oldest first."""
