"""Whoever acts: a person by session, a person by token, or nobody."""

from dataclasses import dataclass, field
from enum import StrEnum

from gatehouse.identity.permissions import (
    ANONYMOUS_PERMISSIONS,
    SESSION_PERMISSIONS,
    Permission,
    TokenRole,
    role_permissions,
)


class Plan(StrEnum):
    FREE = "free"
    PRO = "pro"
    ENTERPRISE = "enterprise"


class OrganizationRole(StrEnum):
    """What a member may do with the repositories of an organisation, least first."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Membership:
    organization_id: int
    organization_name: str
    role: OrganizationRole
    organization_fullname: str = ""


@dataclass(frozen=True, slots=True)
class User:
    id: int
    name: str
    email: str
    fullname: str
    plan: Plan
    is_admin: bool
    memberships: tuple[Membership, ...] = ()


@dataclass(frozen=True, slots=True)
class Actor:
    """A user together with what their credential lets them do.

    Attributes:
        user: Who acts; None for nobody.
        permissions: The most this credential can be used for, on any repository.
        token_id: The access token used, if one was.
        session_id: The session used, if one was.
    """

    user: User | None = None
    permissions: frozenset[Permission] = field(default=ANONYMOUS_PERMISSIONS)
    token_id: int | None = None
    session_id: str | None = None

    @property
    def is_anonymous(self) -> bool:
        return self.user is None

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions

    def role_in(self, account_id: int) -> OrganizationRole | None:
        """This actor's role over the repositories of one account (a user or an organisation)."""
        if self.user is None:
            return None
        if self.user.id == account_id or self.user.is_admin:
            return OrganizationRole.ADMIN
        roles = (m.role for m in self.user.memberships if m.organization_id == account_id)
        return next(roles, None)


ANONYMOUS = Actor()


def session_actor(user: User, session_id: str) -> Actor:
    return Actor(user, SESSION_PERMISSIONS, session_id=session_id)


def token_actor(user: User, role: TokenRole, token_id: int) -> Actor:
    return Actor(user, role_permissions(role), token_id=token_id)


def capability_actor(user: User) -> Actor:
    """A user behind a signed capability; the capability's purpose bounds what it is good for."""
    return Actor(user, role_permissions(TokenRole.WRITE))
