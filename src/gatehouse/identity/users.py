"""People: sign up, sign in, plans and administrators."""

import re
from dataclasses import dataclass

from sqlalchemy import bindparam, delete, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from gatehouse.core.clock import Clock
from gatehouse.core.errors import Conflict, Invalid, NotFound, Unauthenticated
from gatehouse.db.engine import Database
from gatehouse.identity.accounts import AccountKind, claim_name, folded, shown
from gatehouse.identity.actors import Actor, Membership, OrganizationRole, Plan, User
from gatehouse.identity.passwords import Passwords
from gatehouse.identity.tables import AccountRow, MembershipRow, SessionRow, UserRow
from gatehouse.observability.audit import AuditedActor, record

MAX_EMAIL_LENGTH = 254
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)*")

_USER = (
    select(
        UserRow.id,
        AccountRow.name,
        AccountRow.fullname,
        UserRow.email,
        UserRow.plan,
        UserRow.is_admin,
    )
    .join(AccountRow, AccountRow.id == UserRow.id)
    .where(UserRow.id == bindparam("user_id"))
)
_MEMBERSHIPS = (
    select(AccountRow.id, AccountRow.name, AccountRow.fullname, MembershipRow.role)
    .join(MembershipRow, MembershipRow.organization_id == AccountRow.id)
    .where(MembershipRow.user_id == bindparam("user_id"))
    .order_by(AccountRow.name_folded)
)


class WrongPassword(Unauthenticated):
    """Says the same for an unknown name as for a wrong password."""

    def __init__(self) -> None:
        super().__init__("The name or the password is wrong.")


class InvalidEmail(Invalid):
    def __init__(self) -> None:
        super().__init__(
            f"`email` must look like `name@domain` and have at most {MAX_EMAIL_LENGTH} characters."
        )


class EmailTaken(Conflict):
    def __init__(self) -> None:
        super().__init__("`email` is taken: another account uses this address already.")


class UserNotFound(NotFound):
    def __init__(self, name: str | int) -> None:
        super().__init__(f"There is no user `{shown(name)}`.")


@dataclass(frozen=True, slots=True)
class _Credential:
    user_id: int
    password_hash: str


class Users:
    def __init__(self, database: Database, clock: Clock, passwords: Passwords) -> None:
        self._database = database
        self._clock = clock
        self._passwords = passwords

    def create(
        self,
        name: str,
        email: str,
        password: str,
        fullname: str = "",
        is_admin: bool = False,
        plan: Plan = Plan.FREE,
        *,
        by: AuditedActor | None = None,
    ) -> User:
        """Add a user; `by` is who does it, the new user themself by default.

        Raises:
            InvalidName, InvalidFullname, InvalidEmail, InvalidPassword: The field breaks its rule.
            NameTaken, EmailTaken: Somebody has it, in whatever case.
        """
        check_email(email)
        password_hash = self._passwords.hash(password)
        moment = self._clock.now()
        with self._database.write() as session:
            account = claim_name(session, name, AccountKind.USER, fullname, moment)
            row = UserRow(
                id=account.id,
                email=email,
                email_folded=folded(email),
                password_hash=password_hash,
                is_admin=is_admin,
                plan=plan.value,
            )
            _insert(session, row)
            user = load_user(session, account.id)
            detail = {"plan": plan.value, "is_admin": is_admin}
            record(session, moment, by or Actor(user), "user.create", name, detail)
        return user

    def authenticate(self, name_or_email: str, password: str) -> User:
        """Sign in.

        Raises:
            WrongPassword: No such user, or not their password; both take the same time.
        """
        credential = self._credential(name_or_email)
        known_hash = credential.password_hash if credential else None
        if not self._passwords.verify(password, known_hash) or credential is None:
            raise WrongPassword
        if self._passwords.needs_rehash(credential.password_hash):
            self._replace_hash(credential, self._passwords.hash(password))
        return self.by_id(credential.user_id)

    def by_name(self, name: str) -> User:
        """Find a user, whatever the case of `name`.

        Raises:
            UserNotFound: There is none; the name may be an organisation's.
        """
        query = select(AccountRow.id).where(
            AccountRow.name_folded == folded(name), AccountRow.kind == AccountKind.USER.value
        )
        with self._database.read() as session:
            user_id = session.scalar(query)
            if user_id is None:
                raise UserNotFound(name)
            return load_user(session, user_id)

    def by_id(self, user_id: int) -> User:
        """Find a user.

        Raises:
            UserNotFound: There is none.
        """
        with self._database.read() as session:
            return load_user(session, user_id)

    def set_plan(self, user_id: int, plan: Plan, *, by: AuditedActor) -> User:
        with self._database.write() as session:
            _row(session, user_id).plan = plan.value
            user = load_user(session, user_id)
            record(session, self._clock.now(), by, "user.set_plan", user.name, {"plan": plan.value})
        return user

    def set_admin(self, user_id: int, is_admin: bool, *, by: AuditedActor) -> User:
        with self._database.write() as session:
            _row(session, user_id).is_admin = is_admin
            user = load_user(session, user_id)
            detail = {"is_admin": is_admin}
            record(session, self._clock.now(), by, "user.set_admin", user.name, detail)
        return user

    def change_password(
        self, user_id: int, current: str, new: str, *, keep_session: str | None = None
    ) -> None:
        """Change one's own password and end all sessions but `keep_session` (a session id).

        Raises:
            WrongPassword: `current` is not the password.
            InvalidPassword: `new` is too short or too long.
        """
        with self._database.read() as session:
            known_hash = _row(session, user_id).password_hash
        if not self._passwords.verify(current, known_hash):
            raise WrongPassword
        self._set_password(user_id, new, None, keep_session)

    def set_password(self, user_id: int, new: str, *, by: AuditedActor) -> None:
        """Give a user who forgot theirs a new password, and end all their sessions.

        Raises:
            InvalidPassword: `new` is too short or too long.
        """
        self._set_password(user_id, new, by, None)

    def _set_password(
        self, user_id: int, new: str, by: AuditedActor | None, keep_session: str | None
    ) -> None:
        new_hash = self._passwords.hash(new)
        with self._database.write() as session:
            _row(session, user_id).password_hash = new_hash
            ended = delete(SessionRow).where(SessionRow.user_id == user_id)
            if keep_session is not None:
                ended = ended.where(SessionRow.id != keep_session)
            session.execute(ended)
            user = load_user(session, user_id)
            record(session, self._clock.now(), by or Actor(user), "user.set_password", user.name)

    def _credential(self, name_or_email: str) -> _Credential | None:
        sought = folded(name_or_email)
        query = (
            select(UserRow.id, UserRow.password_hash)
            .join(AccountRow, AccountRow.id == UserRow.id)
            .where(or_(AccountRow.name_folded == sought, UserRow.email_folded == sought))
        )
        with self._database.read() as session:
            found = session.execute(query).first()
        return _Credential(found.id, found.password_hash) if found else None

    def _replace_hash(self, credential: _Credential, new_hash: str) -> None:
        # Only if nobody changed the password meanwhile.
        same = (UserRow.id == credential.user_id, UserRow.password_hash == credential.password_hash)
        with self._database.write() as session:
            session.execute(update(UserRow).where(*same).values(password_hash=new_hash))


def check_email(email: str) -> str:
    """Return `email` if it has the shape of an address; only a message sent to it could prove more.

    Raises:
        InvalidEmail: It has not.
    """
    if len(email) > MAX_EMAIL_LENGTH or not email.isprintable() or not _EMAIL.fullmatch(email):
        raise InvalidEmail
    return email


def load_user(session: Session, user_id: int) -> User:
    """Read a user with their memberships, inside the caller's transaction.

    Raises:
        UserNotFound: There is none.
    """
    # Columns instead of rows, in one query: every request with a credential comes through here.
    found = session.execute(_USER, {"user_id": user_id}).one_or_none()
    if found is None:
        raise UserNotFound(user_id)
    return User(
        id=found.id,
        name=found.name,
        email=found.email,
        fullname=found.fullname,
        plan=Plan(found.plan),
        is_admin=found.is_admin,
        memberships=_memberships(session, user_id),
    )


def _memberships(session: Session, user_id: int) -> tuple[Membership, ...]:
    return tuple(
        Membership(found.id, found.name, OrganizationRole(found.role), found.fullname)
        for found in session.execute(_MEMBERSHIPS, {"user_id": user_id})
    )


def _row(session: Session, user_id: int) -> UserRow:
    row = session.get(UserRow, user_id)
    if row is None:
        raise UserNotFound(user_id)
    return row


def _insert(session: Session, row: UserRow) -> None:
    if session.scalar(select(UserRow.id).where(UserRow.email_folded == row.email_folded)):
        raise EmailTaken
    session.add(row)
    try:
        session.flush()
    except IntegrityError:
        raise EmailTaken from None
