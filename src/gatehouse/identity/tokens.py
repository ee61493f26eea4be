"""User access tokens: made, shown once, refreshed, deleted, checked. Keeps hashes only."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import bindparam, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from gatehouse.core.clock import Clock
from gatehouse.core.errors import Conflict, Invalid, NotFound, Unauthenticated
from gatehouse.core.remembered import RememberedUntilChange
from gatehouse.db.engine import Database
from gatehouse.identity.actors import Actor, User, token_actor
from gatehouse.identity.permissions import TokenRole
from gatehouse.identity.tables import AccessTokenRow
from gatehouse.identity.token_values import digest, looks_like_token, new_value
from gatehouse.identity.users import load_user
from gatehouse.observability.audit import AuditedActor, record

MAX_NAME_LENGTH = 96
_USE_NOTED_EVERY = timedelta(minutes=1)
_MAX_ORIGIN_LENGTH = 300
_HINT_LENGTH = 4
# Columns instead of a row: every request with a token comes through here.
_LIVE = select(
    AccessTokenRow.id,
    AccessTokenRow.user_id,
    AccessTokenRow.role,
    AccessTokenRow.expires_at,
    AccessTokenRow.last_used_at,
).where(AccessTokenRow.token_hash == bindparam("token_hash"))


class TokenKind(StrEnum):
    """Where a token came from: made by hand, or by a device sign-in."""

    USER = "user"
    OAUTH = "oauth"


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What may be shown of a token.

    Attributes:
        hint: The last four characters of its value, to tell tokens apart.
        leaked_at: When a web page of `leaked_origin` used it, if one did.
    """

    id: int
    name: str
    kind: TokenKind
    role: TokenRole
    hint: str
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    leaked_at: datetime | None = None
    leaked_origin: str | None = None


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token and its value. The value exists here and with whoever is shown it, nowhere else."""

    value: str = field(repr=False)
    token: AccessToken


@dataclass(frozen=True, slots=True)
class _LiveToken:
    """A token that is known, with whom it speaks for; it may have ended."""

    actor: Actor
    expires_at: datetime | None
    last_used_at: datetime | None

    def has_ended(self, moment: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= moment

    def is_use_noted(self, moment: datetime) -> bool:
        return self.last_used_at is not None and moment - self.last_used_at < _USE_NOTED_EVERY


class InvalidToken(Unauthenticated):
    """The text is what clients look for, to tell a bad token from a missing repository."""

    def __init__(self) -> None:
        super().__init__("Invalid credentials in Authorization header")


class InvalidTokenRequest(Invalid):
    """The name, the role or the end of a new token breaks a rule."""


class TokenNameTaken(Conflict):
    def __init__(self, name: str) -> None:
        super().__init__(f"`name` is taken: you have a token called `{name}` already.")


class TokenNotFound(NotFound):
    def __init__(self) -> None:
        super().__init__("You have no such token.")


class AccessTokens:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._live = RememberedUntilChange[str, _LiveToken](database.version)

    def create(
        self,
        user_id: int,
        name: str,
        role: TokenRole,
        expires_at: datetime | None = None,
        *,
        by: AuditedActor | None = None,
    ) -> NewToken:
        """Make a token; `by` is who does it, the user themself by default.

        Raises:
            InvalidTokenRequest: The name is empty, too long or unprintable, or the end is past.
            TokenNameTaken: The user has a token of that name.
        """
        name = _check_name(name)
        moment = self._clock.now()
        if expires_at is not None and expires_at <= moment:
            raise InvalidTokenRequest("`expires_at` must be in the future.")
        value = new_value()
        row = AccessTokenRow(
            user_id=user_id,
            name=name,
            kind=TokenKind.USER.value,
            role=role.value,
            created_at=moment,
            expires_at=expires_at,
        )
        set_value(row, value)
        with self._database.write() as session:
            user = load_user(session, user_id)
            _insert(session, row)
            record(session, moment, by or Actor(user), "token.create", name, {"role": role.value})
            return NewToken(value, to_access_token(row))

    def list(self, user_id: int) -> tuple[AccessToken, ...]:
        """All tokens of a user, the newest first."""
        query = (
            select(AccessTokenRow)
            .where(AccessTokenRow.user_id == user_id)
            .order_by(AccessTokenRow.created_at.desc(), AccessTokenRow.id.desc())
        )
        with self._database.read() as session:
            return tuple(to_access_token(row) for row in session.scalars(query))

    def get(self, user_id: int, token_id: int) -> AccessToken:
        """Find one of a user's tokens.

        Raises:
            TokenNotFound: It is not theirs, or not there.
        """
        with self._database.read() as session:
            return to_access_token(_owned(session, user_id, token_id))

    def refresh(self, user_id: int, token_id: int) -> NewToken:
        """Give a token a new value: name, role and end stay, the old value is dead at once.

        Raises:
            TokenNotFound: It is not theirs, or not there.
            InvalidTokenRequest: It came from a device sign-in, whose client refreshes it itself.
        """
        value = new_value()
        with self._database.write() as session:
            row = _owned(session, user_id, token_id)
            if row.kind != TokenKind.USER.value:
                raise InvalidTokenRequest("A token from a device sign-in cannot be refreshed here.")
            set_value(row, value)
            # The value that leaked is dead now, and the new one was never used.
            row.leaked_at = row.leaked_origin = row.last_used_at = None
            self._note(session, "token.refresh", row)
            return NewToken(value, to_access_token(row))

    def delete(self, user_id: int, token_id: int) -> None:
        """End a token.

        Raises:
            TokenNotFound: It is not theirs, or not there.
        """
        with self._database.write() as session:
            row = _owned(session, user_id, token_id)
            self._note(session, "token.delete", row)
            session.delete(row)

    def authenticate(self, value: str) -> Actor:
        """Return who a token speaks for, and note that it was used.

        Raises:
            InvalidToken: Mistyped, unknown, deleted, refreshed or expired.
        """
        if not looks_like_token(value):
            raise InvalidToken
        token_hash = digest(value)
        found = self._live.get(token_hash, lambda: self._read_live(token_hash))
        moment = self._clock.now()
        if found.has_ended(moment):
            raise InvalidToken
        if not found.is_use_noted(moment):
            assert found.actor.token_id is not None
            self._note_use(found.actor.token_id, moment)
        return found.actor

    def remembered(self, value: str) -> Actor | None:
        """What `authenticate` would return, if nothing has to be read or noted for it."""
        found = self._live.peek(digest(value))
        moment = self._clock.now()
        if found is None or found.has_ended(moment) or not found.is_use_noted(moment):
            return None
        return found.actor

    def owner(self, value: str) -> User | None:
        """Whose live token `value` is, without counting as a use. For scanners of pushed files."""
        if not looks_like_token(value):
            return None
        with self._database.read() as session:
            row = _by_value(session, value)
            if row is None or (row.expires_at is not None and row.expires_at <= self._clock.now()):
                return None
            return load_user(session, row.user_id)

    def record_leak(self, value: str, origin: str) -> None:
        """Warn the owner that a web page of `origin` holds this token, if it is one of ours."""
        if not looks_like_token(value):
            return
        shown = "".join(c for c in origin if c.isprintable())[:_MAX_ORIGIN_LENGTH]
        with self._database.write() as session:
            row = _by_value(session, value)
            if row is None or row.leaked_origin == shown:
                return
            row.leaked_at = self._clock.now()
            row.leaked_origin = shown
            self._note(session, "token.leak", row, {"origin": shown})

    def dismiss_leak(self, user_id: int, token_id: int) -> None:
        """Take the warning away.

        Raises:
            TokenNotFound: It is not theirs, or not there.
        """
        with self._database.write() as session:
            row = _owned(session, user_id, token_id)
            row.leaked_at = row.leaked_origin = None
            self._note(session, "token.dismiss_leak", row)

    def _note(
        self,
        session: Session,
        action: str,
        row: AccessTokenRow,
        detail: dict[str, str | int | float | bool | None] | None = None,
    ) -> None:
        owner = Actor(load_user(session, row.user_id))
        record(session, self._clock.now(), owner, action, row.name, detail)

    def _read_live(self, token_hash: str) -> _LiveToken:
        with self._database.read() as session:
            found = session.execute(_LIVE, {"token_hash": token_hash}).one_or_none()
            if found is None:
                raise InvalidToken
            user = load_user(session, found.user_id)
        actor = token_actor(user, TokenRole(found.role), found.id)
        return _LiveToken(actor, found.expires_at, found.last_used_at)

    def _note_use(self, token_id: int, moment: datetime) -> None:
        stale = or_(
            AccessTokenRow.last_used_at.is_(None),
            AccessTokenRow.last_used_at <= moment - _USE_NOTED_EVERY,
        )
        with self._database.write() as session:
            session.execute(
                update(AccessTokenRow)
                .where(AccessTokenRow.id == token_id, stale)
                .values(last_used_at=moment)
            )


def set_value(row: AccessTokenRow, value: str) -> None:
    row.token_hash = digest(value)
    row.hint = value[-_HINT_LENGTH:]


def to_access_token(row: AccessTokenRow) -> AccessToken:
    return AccessToken(
        id=row.id,
        name=row.name,
        kind=TokenKind(row.kind),
        role=TokenRole(row.role),
        hint=row.hint,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        leaked_at=row.leaked_at,
        leaked_origin=row.leaked_origin,
    )


def _check_name(name: str) -> str:
    name = name.strip()
    if not 1 <= len(name) <= MAX_NAME_LENGTH or not name.isprintable():
        raise InvalidTokenRequest(
            f"`name` must be 1 to {MAX_NAME_LENGTH} characters, without line breaks."
        )
    return name


def _by_value(session: Session, value: str) -> AccessTokenRow | None:
    return session.scalar(select(AccessTokenRow).where(AccessTokenRow.token_hash == digest(value)))


def _owned(session: Session, user_id: int, token_id: int) -> AccessTokenRow:
    row = session.get(AccessTokenRow, token_id)
    if row is None or row.user_id != user_id:
        raise TokenNotFound
    return row


def _insert(session: Session, row: AccessTokenRow) -> None:
    same_name = select(AccessTokenRow.id).where(
        AccessTokenRow.user_id == row.user_id,
        AccessTokenRow.kind == row.kind,
        AccessTokenRow.name == row.name,
    )
    if session.scalar(same_name) is not None:
        raise TokenNameTaken(row.name)
    session.add(row)
    try:
        session.flush()
    except IntegrityError:
        raise TokenNameTaken(row.name) from None
