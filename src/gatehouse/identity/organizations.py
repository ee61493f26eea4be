"""Organisations: a name that several users own repositories under."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from gatehouse.core.clock import Clock
from gatehouse.core.errors import Conflict, NotFound
from gatehouse.db.engine import Database
from gatehouse.identity.accounts import AccountKind, claim_name, find_account, shown
from gatehouse.identity.actors import Actor, OrganizationRole, User
from gatehouse.identity.tables import AccountRow, MembershipRow
from gatehouse.identity.users import load_user
from gatehouse.observability.audit import AuditedActor, record


@dataclass(frozen=True, slots=True)
class Member:
    user_id: int
    name: str
    role: OrganizationRole


@dataclass(frozen=True, slots=True)
class Organization:
    """An organisation and its members, by name."""

    id: int
    name: str
    fullname: str
    members: tuple[Member, ...]


class OrganizationNotFound(NotFound):
    def __init__(self, name: str) -> None:
        super().__init__(f"There is no organization `{shown(name)}`.")


class MemberNotFound(NotFound):
    def __init__(self, organization: str) -> None:
        super().__init__(f"This user is no member of `{organization}`.")


class AlreadyMember(Conflict):
    def __init__(self, user: str, organization: str) -> None:
        super().__init__(f"`{user}` is a member of `{organization}` already.")


class LastAdmin(Conflict):
    def __init__(self, organization: str) -> None:
        super().__init__(f"`{organization}` must keep one administrator: name another one first.")


class Organizations:
    """Who may do this to an organisation is asked by the caller; here only its own rules hold."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def create(
        self, name: str, fullname: str, owner: User, *, by: AuditedActor | None = None
    ) -> Organization:
        """Add an organisation with `owner` as its administrator; `by` is the owner by default.

        Raises:
            InvalidName, InvalidFullname: A field breaks its rule.
            NameTaken: A user or an organisation has that name.
        """
        moment = self._clock.now()
        with self._database.write() as session:
            row = claim_name(session, name, AccountKind.ORGANIZATION, fullname, moment)
            _join(session, row, owner, OrganizationRole.ADMIN)
            detail = {"owner": owner.name}
            record(session, moment, by or Actor(owner), "organization.create", name, detail)
            return _snapshot(session, row)

    def by_name(self, name: str) -> Organization:
        """Find an organisation, whatever the case of `name`.

        Raises:
            OrganizationNotFound: There is none; the name may be a user's.
        """
        with self._database.read() as session:
            return _snapshot(session, _row(session, name))

    def add_member(
        self, name: str, user: User, role: OrganizationRole, *, by: AuditedActor
    ) -> Organization:
        """Let a user in.

        Raises:
            OrganizationNotFound: There is no such organisation.
            AlreadyMember: They are in.
        """
        with self._database.write() as session:
            row = _row(session, name)
            _join(session, row, user, role)
            detail = {"user": user.name, "role": role.value}
            record(session, self._clock.now(), by, "organization.add_member", row.name, detail)
            return _snapshot(session, row)

    def remove_member(self, name: str, user: User, *, by: AuditedActor) -> Organization:
        """Take a user out.

        Raises:
            OrganizationNotFound, MemberNotFound: There is nothing to remove.
            LastAdmin: Nobody would be left to look after the organisation.
        """
        with self._database.write() as session:
            row = _row(session, name)
            member = _member(session, row.id, user.id)
            if member is None:
                raise MemberNotFound(row.name)
            if member.role == OrganizationRole.ADMIN.value and _num_admins(session, row.id) == 1:
                raise LastAdmin(row.name)
            session.delete(member)
            session.flush()
            detail = {"user": user.name}
            record(session, self._clock.now(), by, "organization.remove_member", row.name, detail)
            return _snapshot(session, row)


def _row(session: Session, name: str) -> AccountRow:
    row = find_account(session, name)
    if row is None or row.kind != AccountKind.ORGANIZATION.value:
        raise OrganizationNotFound(name)
    return row


def _member(session: Session, organization_id: int, user_id: int) -> MembershipRow | None:
    return session.scalar(
        select(MembershipRow).where(
            MembershipRow.organization_id == organization_id, MembershipRow.user_id == user_id
        )
    )


def _num_admins(session: Session, organization_id: int) -> int:
    query = select(func.count()).where(
        MembershipRow.organization_id == organization_id,
        MembershipRow.role == OrganizationRole.ADMIN.value,
    )
    return session.scalar(query) or 0


def _join(session: Session, organization: AccountRow, user: User, role: OrganizationRole) -> None:
    load_user(session, user.id)
    if _member(session, organization.id, user.id) is not None:
        raise AlreadyMember(user.name, organization.name)
    session.add(MembershipRow(organization_id=organization.id, user_id=user.id, role=role.value))
    try:
        session.flush()
    except IntegrityError:
        raise AlreadyMember(user.name, organization.name) from None


def _snapshot(session: Session, row: AccountRow) -> Organization:
    query = (
        select(AccountRow.id, AccountRow.name, MembershipRow.role)
        .join(MembershipRow, MembershipRow.user_id == AccountRow.id)
        .where(MembershipRow.organization_id == row.id)
        .order_by(AccountRow.name_folded)
    )
    members = tuple(
        Member(found.id, found.name, OrganizationRole(found.role))
        for found in session.execute(query)
    )
    return Organization(row.id, row.name, row.fullname, members)
