"""Every table of every room, in one place for Alembic to compare with."""

from gatehouse.db.base import Base
from gatehouse.identity import tables as identity_tables
from gatehouse.inference import tables as inference_tables
from gatehouse.inference.remote import tables as remote_tables
from gatehouse.observability import tables as observability_tables
from gatehouse.repos import tables as repos_tables

# Importing a room's tables registers them with the base; a test checks that no room is forgotten.
ROOMS = (identity_tables, inference_tables, remote_tables, observability_tables, repos_tables)
METADATA = Base.metadata
