"""Rows of the inference room: models for PRO users, models kept in memory, and what was used."""

from datetime import date, datetime

from sqlalchemy import BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from gatehouse.db.base import Base


class ProModelRow(Base):
    """A model that only PRO and enterprise users may run. By id, so a new name changes nothing."""

    __tablename__ = "pro_models"

    repository_id: Mapped[int] = mapped_column(
        ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True
    )
    added_at: Mapped[datetime]


class PinnedModelRow(Base):
    """A model that is kept in memory: a branch as it is at each moment, or a tag or a commit."""

    __tablename__ = "pinned_models"

    repository_id: Mapped[int] = mapped_column(
        ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True
    )
    revision: Mapped[str] = mapped_column(String(512), primary_key=True)
    added_at: Mapped[datetime]


class ModelOptionsRow(Base):
    """How an administrator wants a model to be run; nothing for one that is run as usual."""

    __tablename__ = "model_options"

    repository_id: Mapped[int] = mapped_column(
        ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True
    )
    runner: Mapped[str] = mapped_column(String(32))
    precision: Mapped[str] = mapped_column(String(32))
    weight_format: Mapped[str] = mapped_column(String(32))
    speculation: Mapped[str] = mapped_column(String(32), server_default="off")


class UsageRow(Base):
    """What one credential used of one model on one day (UTC).

    Plain ids, since a bill outlives the account and the repository; 0 stands for none: an anonymous
    caller, a session instead of a token, nobody else billed.
    """

    __tablename__ = "usage"

    day: Mapped[date] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(primary_key=True, index=True)
    token_id: Mapped[int] = mapped_column(primary_key=True)
    organization_id: Mapped[int] = mapped_column(primary_key=True)
    repository_id: Mapped[int] = mapped_column(primary_key=True)
    num_requests: Mapped[int] = mapped_column(BigInteger)
    num_cached_requests: Mapped[int] = mapped_column(BigInteger)
    num_prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    num_generated_tokens: Mapped[int] = mapped_column(BigInteger)
    seconds: Mapped[float]
