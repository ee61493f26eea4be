"""Signed-in browsers. The cookie holds a random value, the database only its SHA-256."""

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta

from sqlalchemy import delete, update

from gatehouse.core.clock import Clock
from gatehouse.db.engine import Database
from gatehouse.identity.actors import Actor, User, session_actor
from gatehouse.identity.tables import SessionRow
from gatehouse.identity.token_values import digest
from gatehouse.identity.users import load_user

LIFETIME = timedelta(days=30)
# The end slides, but is written at most this often.
_SLIDE_EVERY = timedelta(days=1)
_MAX_USER_AGENT_LENGTH = 300


class Sessions:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def start(self, user: User, user_agent: str = "") -> str:
        """Sign a browser in; return its cookie's value, good for 30 days after its last use."""
        value = secrets.token_urlsafe(32)
        moment = self._clock.now()
        shown = "".join(c for c in user_agent if c.isprintable())[:_MAX_USER_AGENT_LENGTH]
        with self._database.write() as session:
            session.execute(delete(SessionRow).where(SessionRow.expires_at <= moment))
            session.add(
                SessionRow(
                    id=digest(value),
                    user_id=user.id,
                    created_at=moment,
                    expires_at=moment + LIFETIME,
                    user_agent=shown,
                )
            )
        return value

    def authenticate(self, value: str) -> Actor | None:
        """Who the cookie's value speaks for; None when it is unknown, ended or expired."""
        session_id = digest(value)
        moment = self._clock.now()
        with self._database.read() as session:
            row = session.get(SessionRow, session_id)
            if row is None or row.expires_at <= moment:
                return None
            user = load_user(session, row.user_id)
        if row.expires_at - moment <= LIFETIME - _SLIDE_EVERY:
            self._slide(session_id, moment)
        return session_actor(user, session_id)

    def end(self, value: str) -> None:
        """Sign the browser out; its value is dead when this returns."""
        with self._database.write() as session:
            session.execute(delete(SessionRow).where(SessionRow.id == digest(value)))

    def end_all(self, user: User) -> None:
        """Sign the user out everywhere."""
        with self._database.write() as session:
            session.execute(delete(SessionRow).where(SessionRow.user_id == user.id))

    def _slide(self, session_id: str, moment: datetime) -> None:
        with self._database.write() as session:
            session.execute(
                update(SessionRow)
                .where(SessionRow.id == session_id)
                .values(expires_at=moment + LIFETIME)
            )


def csrf_token(session_value: str) -> str:
    """What forms of this session must carry. It does not reveal the session's value."""
    return hmac.new(session_value.encode(), b"gatehouse form", hashlib.sha256).hexdigest()


def is_csrf_token(session_value: str, given: str) -> bool:
    """Whether a form came from a page of this session; compared in constant time."""
    return hmac.compare_digest(
        csrf_token(session_value).encode(), given.encode("utf-8", "surrogatepass")
    )
