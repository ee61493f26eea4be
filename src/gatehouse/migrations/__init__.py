"""Alembic; sees every table, seen by none."""
