"""Rows of the repos room.

What a commit holds is git's to say; rows say who owns it and who may read it.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from gatehouse.db.base import Base


class RepositoryRow(Base):
    """One repository. `storage_id` names its folder; nothing a user typed ever does.

    `generation` counts changes of who may read it, so that what was cached for the old readers is
    left behind.
    """

    __tablename__ = "repositories"
    # A deleted repository's id must never come back: caches and signed addresses carry it.
    __table_args__ = (
        UniqueConstraint("kind", "owner_id", "name_folded"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    storage_id: Mapped[str] = mapped_column(String(32), unique=True)
    kind: Mapped[str] = mapped_column(String(16))
    owner_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    name: Mapped[str] = mapped_column(String(96))
    name_folded: Mapped[str] = mapped_column(String(96))
    visibility: Mapped[str] = mapped_column(String(16))
    gated: Mapped[str] = mapped_column(String(16))
    generation: Mapped[int] = mapped_column(default=0)
    downloads: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime] = mapped_column(index=True)


class RepoRedirectRow(Base):
    """An old name of a repository. It leads to the new one until somebody owns that name again."""

    __tablename__ = "repo_redirects"
    __table_args__ = (UniqueConstraint("kind", "namespace_folded", "name_folded"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    namespace_folded: Mapped[str] = mapped_column(String(96))
    name_folded: Mapped[str] = mapped_column(String(96))
    repository_id: Mapped[int] = mapped_column(
        ForeignKey("repositories.id", ondelete="CASCADE"), index=True
    )


class RepoObjectRow(Base):
    """A large file that a repository may name: its writer proved to hold the bytes."""

    __tablename__ = "repo_objects"
    __table_args__ = (Index("ix_repo_objects_sha256", "sha256"),)

    repository_id: Mapped[int] = mapped_column(
        ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True
    )
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]


class RepoXorbRow(Base):
    """A xorb that was uploaded for a repository.

    Those who can read that repository may refer to it.
    """

    __tablename__ = "repo_xorbs"
    __table_args__ = (Index("ix_repo_xorbs_xorb_hash", "xorb_hash"),)

    repository_id: Mapped[int] = mapped_column(
        ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True
    )
    xorb_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    created_at: Mapped[datetime]


class XetFileRow(Base):
    """A Xet file whose bytes were rebuilt once and found to have this SHA-256: true for ever."""

    __tablename__ = "xet_files"

    file_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    segments: Mapped[list[list[Any]]] = mapped_column(JSON)


class AccessRequestRow(Base):
    """Somebody's request to pass the gate of a repository, and what became of it."""

    __tablename__ = "access_requests"
    __table_args__ = (UniqueConstraint("repository_id", "user_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    repository_id: Mapped[int] = mapped_column(
        ForeignKey("repositories.id", ondelete="CASCADE"), index=True
    )
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    status: Mapped[str] = mapped_column(String(16))
    fields: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[int | None]
    rejection_reason: Mapped[str | None] = mapped_column(String(1000))
