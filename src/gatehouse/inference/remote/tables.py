"""Rows of the models that other servers run."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from gatehouse.db.base import Base


class RemoteEngineRow(Base):
    """Which server runs a repository's model. By id, so a new name changes nothing.

    `sealed_key` is what the server wants as Bearer token, encrypted; see `sealing.py`.
    `abilities` is a `RemoteAbilities`; keys that a later version adds are absent in older rows.
    """

    __tablename__ = "remote_engines"

    repository_id: Mapped[int] = mapped_column(
        ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True
    )
    url: Mapped[str] = mapped_column(String(500))
    kind: Mapped[str] = mapped_column(String(16))
    model_name: Mapped[str] = mapped_column(String(300))
    sealed_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    context_length: Mapped[int]
    abilities: Mapped[dict[str, Any]] = mapped_column(JSON)
    num_concurrent: Mapped[int]
    version: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[datetime]
