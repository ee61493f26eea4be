"""Run by Alembic, on the connection that `upgrade.py` (or a developer's command) hands in."""

from typing import Any, Literal

from alembic import context

from gatehouse.db.base import UtcDateTime
from gatehouse.migrations.metadata import METADATA


def render_item(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Write column types of ours as what they are in the database: migrations outlive code."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    # SQLite changes a column by copying the table.
    render_as_batch=True,
    render_item=render_item,
)
with context.begin_transaction():
    context.run_migrations()
