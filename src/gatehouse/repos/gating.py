"""Asking to pass a gate, and deciding about it.

`gate: auto` lets in whoever asks; `manual` waits for the owner. Decisions are rows; `Access` reads
them.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from gatehouse.core.clock import Clock
from gatehouse.core.errors import Conflict, Invalid, NotFound
from gatehouse.db.engine import Database
from gatehouse.identity.actors import Actor
from gatehouse.identity.tables import AccountRow, UserRow
from gatehouse.observability.audit import record
from gatehouse.repos.repository import Gate, Repository
from gatehouse.repos.tables import AccessRequestRow, RepositoryRow

_MAX_REASON = 1000
_MAX_FIELDS_BYTES = 16 * 1024


class RequestStatus(StrEnum):
    PENDING = "pending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


class NotGated(Invalid):
    """The repository has no gate, so there is nothing to ask or decide."""


class RequestNotFound(NotFound):
    """This user never asked for access, or there is no such user."""


class AlreadyGranted(Invalid):
    """The user has access already."""


class AlreadyDecided(Conflict):
    """The request has this status already."""


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """One person's request at one gate.

    Attributes:
        fields: What they wrote into the owner's form, by the field's label.
    """

    id: int
    user_id: int
    user_name: str
    fullname: str
    email: str
    status: RequestStatus
    fields: dict[str, Any]
    created_at: datetime
    decided_at: datetime | None
    rejection_reason: str | None


class GrantedUsers:
    """Who was let through which gate: the question that `Access` asks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def is_accepted(self, repository_id: int, user_id: int) -> bool:
        query = select(AccessRequestRow.id).where(
            AccessRequestRow.repository_id == repository_id,
            AccessRequestRow.user_id == user_id,
            AccessRequestRow.status == RequestStatus.ACCEPTED.value,
        )
        with self._database.read() as session:
            return session.execute(query).first() is not None


class Gating:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def ask(self, actor: Actor, repository: Repository, fields: dict[str, Any]) -> AccessRequest:
        """Ask for access; at an automatic gate this grants it.

        Asking again while a request waits, or after it was cancelled, updates the form. A rejected
        person cannot overrule the owner by asking again.

        Raises:
            NotGated: There is no gate.
            AlreadyDecided: The owner rejected this person.
        """
        _require_gate(repository)
        assert actor.user is not None
        _check_fields(fields)
        now = self._clock.now()
        with self._database.write() as session:
            row = _row(session, repository, actor.user.id)
            if row is not None and row.status == RequestStatus.REJECTED.value:
                raise AlreadyDecided("The owner of this repository rejected your request.")
            if row is None:
                row = AccessRequestRow(repository_id=repository.id, user_id=actor.user.id)
                row.status, row.created_at = RequestStatus.PENDING.value, now
                session.add(row)
            row.fields = fields
            # The gate as it is now: the caller may have looked before the owner closed it.
            gate = Gate(session.get_one(RepositoryRow, repository.id).gated)
            if gate is Gate.AUTO and row.status == RequestStatus.PENDING.value:
                _decide(row, RequestStatus.ACCEPTED, now, None)
                _bump(session, repository)
            session.flush()
            record(session, now, actor, "gate.ask", _subject(repository), {"status": row.status})
            return self._read(session, row.id)

    def mine(self, actor: Actor, repository: Repository) -> AccessRequest | None:
        if actor.user is None:
            return None
        with self._database.read() as session:
            row = _row(session, repository, actor.user.id)
            return self._read(session, row.id) if row else None

    def list(self, repository: Repository, status: RequestStatus) -> list[AccessRequest]:
        """Requests of one status, newest first.

        Raises:
            NotGated: There is no gate.
        """
        _require_gate(repository)
        query = _joined().where(
            AccessRequestRow.repository_id == repository.id,
            AccessRequestRow.status == status.value,
        )
        query = query.order_by(AccessRequestRow.created_at.desc(), AccessRequestRow.id.desc())
        with self._database.read() as session:
            return [_snapshot(*row) for row in session.execute(query)]

    def handle(
        self,
        actor: Actor,
        repository: Repository,
        status: RequestStatus,
        *,
        user: str | None = None,
        request_id: int | None = None,
        reason: str | None = None,
    ) -> AccessRequest:
        """Accept, reject, or put back to pending (which takes access away).

        Raises:
            RequestNotFound: Nobody of that name or number asked.
            AlreadyDecided: It has this status.
        """
        _require_gate(repository)
        if reason is not None and len(reason) > _MAX_REASON:
            raise Invalid(f"`rejectionReason` must have at most {_MAX_REASON} characters.")
        if reason and status is not RequestStatus.REJECTED:
            raise Invalid("`rejectionReason` goes with the status `rejected` only.")
        now = self._clock.now()
        with self._database.write() as session:
            row = _asked(session, repository, user, request_id)
            if row.status == status.value:
                raise AlreadyDecided(f"The request is {status.value} already.")
            _decide(row, status, now, actor, reason)
            _bump(session, repository)
            record(
                session,
                now,
                actor,
                f"gate.{status.value}",
                _subject(repository),
                {"user": row.user_id},
            )
            return self._read(session, row.id)

    def grant(self, actor: Actor, repository: Repository, user: str) -> AccessRequest:
        """Let somebody in who did not ask.

        Raises:
            RequestNotFound: There is no such user.
            AlreadyGranted: They have access.
        """
        _require_gate(repository)
        now = self._clock.now()
        with self._database.write() as session:
            user_id = _user_id(session, user)
            row = _row(session, repository, user_id)
            if row is not None and row.status == RequestStatus.ACCEPTED.value:
                raise AlreadyGranted(f"`{user}` already has access to {repository.repo_id}.")
            if row is None:
                row = AccessRequestRow(repository_id=repository.id, user_id=user_id, fields={})
                row.created_at = now
                session.add(row)
            _decide(row, RequestStatus.ACCEPTED, now, actor)
            _bump(session, repository)
            session.flush()
            record(session, now, actor, "gate.grant", _subject(repository), {"user": user_id})
            return self._read(session, row.id)

    def _read(self, session: Session, request_id: int) -> AccessRequest:
        return _snapshot(*session.execute(_joined().where(AccessRequestRow.id == request_id)).one())


def _joined() -> Select[AccessRequestRow, AccountRow, UserRow]:
    return (
        select(AccessRequestRow, AccountRow, UserRow)
        .join(UserRow, UserRow.id == AccessRequestRow.user_id)
        .join(AccountRow, AccountRow.id == UserRow.id)
    )


def _snapshot(row: AccessRequestRow, account: AccountRow, user: UserRow) -> AccessRequest:
    return AccessRequest(
        id=row.id,
        user_id=row.user_id,
        user_name=account.name,
        fullname=account.fullname,
        email=user.email,
        status=RequestStatus(row.status),
        fields=row.fields,
        created_at=row.created_at,
        decided_at=row.decided_at,
        rejection_reason=row.rejection_reason,
    )


def _row(session: Session, repository: Repository, user_id: int) -> AccessRequestRow | None:
    query = select(AccessRequestRow).where(
        AccessRequestRow.repository_id == repository.id, AccessRequestRow.user_id == user_id
    )
    return session.scalars(query).first()


def _asked(
    session: Session, repository: Repository, user: str | None, request_id: int | None
) -> AccessRequestRow:
    if (user is None) == (request_id is None):
        raise Invalid("Give either `user` or `requestId`.")
    if user is not None:
        row = _row(session, repository, _user_id(session, user))
    else:
        row = session.get(AccessRequestRow, request_id)
    if row is None or row.repository_id != repository.id:
        raise RequestNotFound("There is no such access request at this repository.")
    return row


def _user_id(session: Session, name: str) -> int:
    query = (
        select(UserRow.id)
        .join(AccountRow, AccountRow.id == UserRow.id)
        .where(AccountRow.name_folded == name.casefold())
    )
    user_id = session.scalars(query).first()
    if user_id is None:
        raise RequestNotFound(f"There is no user `{name[:100]}`.")
    return user_id


def _decide(
    row: AccessRequestRow,
    status: RequestStatus,
    now: datetime,
    actor: Actor | None,
    reason: str | None = None,
) -> None:
    row.status = status.value
    row.decided_at = None if status is RequestStatus.PENDING else now
    row.decided_by = actor.user.id if actor is not None and actor.user is not None else None
    row.rejection_reason = reason or None


def _bump(session: Session, repository: Repository) -> None:
    session.get_one(RepositoryRow, repository.id).generation += 1


def _require_gate(repository: Repository) -> None:
    if not repository.is_gated:
        raise NotGated(f"{repository.repo_id} is not gated.")


def _check_fields(fields: dict[str, Any]) -> None:
    size = sum(len(str(key)) + len(str(value)) for key, value in fields.items())
    if size > _MAX_FIELDS_BYTES:
        raise Invalid(f"`fields` must have at most {_MAX_FIELDS_BYTES} characters in all.")


def _subject(repository: Repository) -> str:
    return f"{repository.kind.plural}/{repository.repo_id}"
