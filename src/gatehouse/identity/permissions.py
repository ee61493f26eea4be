"""What an actor may be allowed to do, and which of it each kind of credential carries."""

from enum import StrEnum


class Permission(StrEnum):
    """`resource:action`. Whether it holds for one repository is decided in `repos/access.py`."""

    REPO_METADATA = "repo:metadata"
    REPO_CONTENT = "repo:content"
    REPO_WRITE = "repo:write"
    REPO_CREATE = "repo:create"
    REPO_ADMIN = "repo:admin"
    GATE_ASK = "gate:ask"
    INFERENCE_RUN = "inference:run"
    ACCOUNT_READ = "account:read"
    ACCOUNT_WRITE = "account:write"


class TokenRole(StrEnum):
    """The role a person chooses for an access token; read is the recommended one."""

    READ = "read"
    WRITE = "write"


ANONYMOUS_PERMISSIONS = frozenset(
    {Permission.REPO_METADATA, Permission.REPO_CONTENT, Permission.INFERENCE_RUN}
)
_READ = ANONYMOUS_PERMISSIONS | {Permission.ACCOUNT_READ}
_WRITE = _READ | {
    Permission.REPO_WRITE,
    Permission.REPO_CREATE,
    Permission.REPO_ADMIN,
    Permission.GATE_ASK,
}
# Passwords, sessions and tokens are changed by a person at the settings page, never by a token.
SESSION_PERMISSIONS = frozenset(Permission)


def role_permissions(role: TokenRole) -> frozenset[Permission]:
    return frozenset(_WRITE if role is TokenRole.WRITE else _READ)
