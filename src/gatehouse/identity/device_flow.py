"""Sign-in of a program without a browser: the OAuth device flow (RFC 8628) and its refresh tokens.

Any public client id is taken, as the Hub's own clients send a fixed one. Knows nothing of HTTP.
"""

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from gatehouse.core.clock import Clock
from gatehouse.core.errors import Invalid, NotFound
from gatehouse.db.engine import Database
from gatehouse.identity.actors import Actor, User
from gatehouse.identity.permissions import TokenRole
from gatehouse.identity.tables import AccessTokenRow, DeviceCodeRow
from gatehouse.identity.token_values import REFRESH_PREFIX, digest, new_value
from gatehouse.identity.tokens import TokenKind, set_value
from gatehouse.identity.user_codes import new_user_code, parse_user_code
from gatehouse.identity.users import load_user
from gatehouse.observability.audit import record

CODE_LIFETIME = timedelta(minutes=15)
# Clients refresh when less than a day is left, so a token has to live much longer than that.
TOKEN_LIFETIME = timedelta(days=30)
REFRESH_LIFETIME = timedelta(days=180)
INTERVAL_SECONDS = 5
_MAX_INTERVAL_SECONDS = 60
# A client that waits five seconds sharp may arrive a moment early by our clock.
_TOLERANCE = timedelta(milliseconds=500)
_KEPT_AFTER_END = timedelta(hours=1)
_MAX_CLIENT_ID_LENGTH = 200


class DeviceStatus(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class DeviceGrant:
    """What a client is told at the start. Durations are seconds."""

    device_code: str = field(repr=False)
    user_code: str
    interval: int
    expires_in: int


@dataclass(frozen=True, slots=True)
class PendingDevice:
    """What a person is shown before they approve."""

    user_code: str
    client_id: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """The end of the flow. `expires_in` is seconds."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int


class OAuthError(Invalid):
    """A refusal that OAuth clients understand.

    Attributes:
        error: The code that RFC 6749 or RFC 8628 gives it.
    """

    error = "invalid_request"


class AuthorizationPending(OAuthError):
    error = "authorization_pending"

    def __init__(self) -> None:
        super().__init__("Nobody has approved this sign-in yet.")


class SlowDown(OAuthError):
    error = "slow_down"

    def __init__(self, interval: int) -> None:
        super().__init__(f"Wait {interval} seconds between two requests.")


class DeviceCodeExpired(OAuthError):
    error = "expired_token"

    def __init__(self) -> None:
        super().__init__("This sign-in took too long: start it again.")


class AccessDenied(OAuthError):
    error = "access_denied"

    def __init__(self) -> None:
        super().__init__("The sign-in was refused.")


class InvalidGrant(OAuthError):
    error = "invalid_grant"


class InvalidClient(OAuthError):
    error = "invalid_client"


class DeviceNotFound(NotFound):
    def __init__(self) -> None:
        super().__init__("No sign-in waits under this code: it is mistyped, used or too old.")


class DeviceFlow:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def start(self, client_id: str) -> DeviceGrant:
        """Begin a sign-in.

        Raises:
            InvalidClient: The client id is empty, too long or unprintable.
        """
        _check_client_id(client_id)
        device_code = secrets.token_urlsafe(32)
        moment = self._clock.now()
        with self._database.write() as session:
            old = DeviceCodeRow.expires_at <= moment - _KEPT_AFTER_END
            session.execute(delete(DeviceCodeRow).where(old))
            user_code = _unused_code(session)
            session.add(
                DeviceCodeRow(
                    device_hash=digest(device_code),
                    user_code=user_code,
                    client_id=client_id,
                    created_at=moment,
                    expires_at=moment + CODE_LIFETIME,
                    interval=INTERVAL_SECONDS,
                    status=DeviceStatus.PENDING.value,
                )
            )
        return DeviceGrant(
            device_code, user_code, INTERVAL_SECONDS, int(CODE_LIFETIME.total_seconds())
        )

    def pending(self, user_code: str) -> PendingDevice:
        """Find the sign-in that a person typed the code of.

        Raises:
            InvalidUserCode: It cannot be a code.
            DeviceNotFound: None waits under it.
        """
        with self._database.read() as session:
            row = self._waiting(session, user_code)
            return PendingDevice(row.user_code, row.client_id, row.created_at)

    def approve(self, user_code: str, user: User) -> None:
        """Let the waiting program act for `user`.

        Raises:
            InvalidUserCode, DeviceNotFound: See `pending`.
        """
        self._decide(user_code, user, DeviceStatus.APPROVED)

    def deny(self, user_code: str, user: User) -> None:
        """Refuse the waiting program.

        Raises:
            InvalidUserCode, DeviceNotFound: See `pending`.
        """
        self._decide(user_code, user, DeviceStatus.DENIED)

    def poll(self, device_code: str, client_id: str) -> IssuedToken:
        """Answer a waiting program; the token is issued once.

        Raises:
            AuthorizationPending, SlowDown, DeviceCodeExpired, AccessDenied: RFC 8628, section 3.5.
            InvalidGrant: The code is unknown, used, or another client's.
        """
        with self._database.write() as session:
            outcome = self._answer(session, device_code, client_id)
        # Raised here, not above: the time of this poll must be kept.
        if isinstance(outcome, OAuthError):
            raise outcome
        return outcome

    def refresh(self, refresh_token: str, client_id: str) -> IssuedToken:
        """Exchange a refresh token for new values; both old values are dead when this returns.

        Raises:
            InvalidGrant: Unknown, used, too old, or another client's.
        """
        moment = self._clock.now()
        with self._database.write() as session:
            by_hash = AccessTokenRow.refresh_hash == digest(refresh_token)
            row = session.scalar(select(AccessTokenRow).where(by_hash))
            if row is None or row.client_id != client_id or row.expires_at is None:
                raise InvalidGrant("The refresh token is unknown or was used: sign in again.")
            if moment >= row.expires_at - TOKEN_LIFETIME + REFRESH_LIFETIME:
                raise InvalidGrant("The refresh token is too old: sign in again.")
            return _issue(row, moment)

    def _waiting(self, session: Session, user_code: str) -> DeviceCodeRow:
        code = parse_user_code(user_code)
        row = session.scalar(select(DeviceCodeRow).where(DeviceCodeRow.user_code == code))
        if (
            row is None
            or row.expires_at <= self._clock.now()
            or row.status != DeviceStatus.PENDING.value
        ):
            raise DeviceNotFound
        return row

    def _decide(self, user_code: str, user: User, status: DeviceStatus) -> None:
        with self._database.write() as session:
            row = self._waiting(session, user_code)
            row.status = status.value
            row.user_id = user.id
            detail = {"client_id": row.client_id}
            action = f"device.{status.value}"
            record(session, self._clock.now(), Actor(user), action, row.user_code, detail)

    def _answer(
        self, session: Session, device_code: str, client_id: str
    ) -> IssuedToken | OAuthError:
        moment = self._clock.now()
        row = session.get(DeviceCodeRow, digest(device_code))
        if row is None or row.client_id != client_id:
            return InvalidGrant("The device code is unknown or was used.")
        if row.expires_at <= moment:
            return DeviceCodeExpired()
        if row.status == DeviceStatus.DENIED.value:
            return AccessDenied()
        if row.status == DeviceStatus.APPROVED.value:
            return _finish(session, row, moment)
        return _wait(row, moment)


def _wait(row: DeviceCodeRow, moment: datetime) -> OAuthError:
    last, row.polled_at = row.polled_at, moment
    if last is not None and moment - last < timedelta(seconds=row.interval) - _TOLERANCE:
        row.interval = min(row.interval + INTERVAL_SECONDS, _MAX_INTERVAL_SECONDS)
        return SlowDown(row.interval)
    return AuthorizationPending()


def _finish(session: Session, device: DeviceCodeRow, moment: datetime) -> IssuedToken:
    if device.user_id is None:
        raise AssertionError("approved by nobody")
    user = load_user(session, device.user_id)
    row = AccessTokenRow(
        user_id=user.id,
        name=_unused_name(session, user.id, device.user_code),
        kind=TokenKind.OAUTH.value,
        role=TokenRole.WRITE.value,
        client_id=device.client_id,
        created_at=moment,
    )
    issued = _issue(row, moment)
    session.add(row)
    session.delete(device)
    record(session, moment, Actor(user), "token.create", row.name, {"role": row.role})
    return issued


def _issue(row: AccessTokenRow, moment: datetime) -> IssuedToken:
    access, refresh = new_value(), new_value(REFRESH_PREFIX)
    set_value(row, access)
    row.refresh_hash = digest(refresh)
    row.expires_at = moment + TOKEN_LIFETIME
    return IssuedToken(access, refresh, int(TOKEN_LIFETIME.total_seconds()))


def _unused_code(session: Session) -> str:
    while True:
        code = new_user_code()
        known = select(DeviceCodeRow.user_code).where(DeviceCodeRow.user_code == code)
        if session.scalar(known) is None:
            return code


def _unused_name(session: Session, user_id: int, user_code: str) -> str:
    query = select(AccessTokenRow.name).where(
        AccessTokenRow.user_id == user_id, AccessTokenRow.kind == TokenKind.OAUTH.value
    )
    taken = set(session.scalars(query))
    name, number = f"Device sign-in {user_code}", 1
    while name in taken:
        number += 1
        name = f"Device sign-in {user_code} ({number})"
    return name


def _check_client_id(client_id: str) -> None:
    if not 1 <= len(client_id) <= _MAX_CLIENT_ID_LENGTH or not client_id.isprintable():
        raise InvalidClient(
            f"`client_id` must be 1 to {_MAX_CLIENT_ID_LENGTH} printable characters."
        )
