"""The audit trail: who did what to what. Written in the deed's own transaction."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from gatehouse.db.engine import Database
from gatehouse.observability.tables import AuditRow

_SECRET_WORDS = ("password", "secret", "cookie", "value")
_NOBODY = "(anonymous)"

Scalar = str | int | float | bool | None


class AuditedUser(Protocol):
    @property
    def id(self) -> int | None: ...

    @property
    def name(self) -> str: ...


class AuditedActor(Protocol):
    """Whoever acts; `identity.actors.Actor` is one."""

    @property
    def user(self) -> AuditedUser | None: ...


@dataclass(frozen=True, slots=True)
class ActingUser:
    id: int | None
    name: str


@dataclass(frozen=True, slots=True)
class ActingParty:
    user: ActingUser


# The command line acts under this name: whoever can write the data folder needs no account.
OPERATOR = ActingParty(ActingUser(None, "(operator)"))


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One deed.

    Attributes:
        actor_id: The acting account; None for the operator and for nobody.
        action: `resource.action`, such as `token.create`.
        subject: What it was done to, such as `alice/model`.
        detail: More words about it; never a secret.
    """

    id: int
    moment: datetime
    actor_id: int | None
    actor_name: str
    action: str
    subject: str
    detail: Mapping[str, Scalar]


def record(
    session: Session,
    moment: datetime,
    actor: AuditedActor,
    action: str,
    subject: str,
    detail: Mapping[str, Scalar] | None = None,
) -> None:
    """Add an entry inside the caller's transaction.

    Raises:
        ValueError: A key of `detail` is called like a secret. A mistake of the calling code.
    """
    detail = dict(detail or {})
    for key in detail:
        if any(word in key.lower() for word in _SECRET_WORDS):
            raise ValueError(f"the audit trail keeps no secrets; `{key}` looks like one")
    session.add(
        AuditRow(
            moment=moment,
            actor_id=actor.user.id if actor.user else None,
            actor_name=actor.user.name if actor.user else _NOBODY,
            action=action,
            subject=subject[:300],
            detail=detail,
        )
    )


class AuditTrail:
    """Reads the trail."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def recent(
        self, limit: int = 100, *, subject: str | None = None, before_id: int | None = None
    ) -> tuple[AuditEntry, ...]:
        """Return the newest entries first; `before_id` continues an earlier answer."""
        query = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
        if subject is not None:
            query = query.where(AuditRow.subject == subject)
        if before_id is not None:
            query = query.where(AuditRow.id < before_id)
        with self._database.read() as session:
            return tuple(_to_entry(row) for row in session.scalars(query))


def _to_entry(row: AuditRow) -> AuditEntry:
    return AuditEntry(
        row.id, row.moment, row.actor_id, row.actor_name, row.action, row.subject, row.detail
    )
