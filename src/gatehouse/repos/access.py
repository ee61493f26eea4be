"""The one gate: may this actor do this to this repository?

Every route, page, push and model host asks here and nowhere else. It knows nothing of HTTP.
"""

from typing import Protocol

from gatehouse.core.errors import Forbidden, Unauthenticated
from gatehouse.identity.actors import Actor, OrganizationRole
from gatehouse.identity.permissions import Permission
from gatehouse.repos.errors import GateNotAccepted, RepoNotFound, ScopeMissing
from gatehouse.repos.repository import Repository

_NEEDS_GATE = frozenset({Permission.REPO_CONTENT, Permission.INFERENCE_RUN})
_NEEDS_ROLE = {
    Permission.REPO_WRITE: OrganizationRole.WRITE,
    Permission.REPO_ADMIN: OrganizationRole.ADMIN,
}
_RANK = {role: rank for rank, role in enumerate(OrganizationRole)}


class LoginRequired(Unauthenticated):
    """Nobody is signed in and the repository needs somebody; `code` says what it looks like."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Grants(Protocol):
    """Who was let through which gate."""

    def is_accepted(self, repository_id: int, user_id: int) -> bool: ...


class Access:
    def __init__(self, grants: Grants) -> None:
        self._grants = grants

    def require(self, actor: Actor, repository: Repository, permission: Permission) -> None:
        """Return if `actor` may do `permission` to `repository`.

        Raises:
            RepoNotFound: The actor may not know that it exists.
            LoginRequired: Nobody is signed in, and somebody might be allowed.
            GateNotAccepted: It is gated, and the actor was not let in.
            ScopeMissing: The actor might, but not with this credential.
            Forbidden: The actor's role over the owner is too low.
        """
        role = actor.role_in(repository.owner_id)
        if not self.may_know_of(actor, repository):
            raise repo_not_found(actor, f"{repository.kind.plural}/{repository.repo_id}")
        if permission in _NEEDS_GATE and repository.is_gated and role is None:
            self._require_grant(actor, repository)
        if permission in _NEEDS_ROLE:
            _require_role(actor, repository, role, _NEEDS_ROLE[permission])
        if not actor.may(permission):
            raise missing_scope(actor, permission)

    def may_know_of(self, actor: Actor, repository: Repository) -> bool:
        """Whether the repository exists, as far as `actor` is concerned."""
        return not repository.is_private or actor.role_in(repository.owner_id) is not None

    def allows(self, actor: Actor, repository: Repository, permission: Permission) -> bool:
        try:
            self.require(actor, repository, permission)
        except (Forbidden, RepoNotFound, Unauthenticated):
            return False
        return True

    def _require_grant(self, actor: Actor, repository: Repository) -> None:
        name = str(repository.repo_id)
        if actor.user is None:
            raise LoginRequired(
                f"Access to {repository.kind.value} {name} is restricted. You must have access to "
                "it and be authenticated to access it. Please log in.",
                GateNotAccepted.code or "",
            )
        if not self._grants.is_accepted(repository.id, actor.user.id):
            raise GateNotAccepted(
                f"Access to {repository.kind.value} {name} is restricted and you are not in the "
                f"authorized list. Visit the page of {name} to ask for access."
            )


def repo_not_found(actor: Actor, name: str) -> RepoNotFound | LoginRequired:
    """The answer for what does not exist and for what must look so: the same words for both."""
    if actor.is_anonymous:
        return LoginRequired(f"Repository not found: {name}", RepoNotFound.code or "")
    return RepoNotFound(f"Repository not found: {name}")


def missing_scope(actor: Actor, permission: Permission) -> ScopeMissing | LoginRequired:
    if actor.user is None:
        return LoginRequired("You must be signed in to do this.", "")
    if permission is Permission.INFERENCE_RUN:
        # Clients and their users know these words.
        return ScopeMissing(
            "This authentication method does not have sufficient permissions to call Inference "
            f"Providers on behalf of user {actor.user.name}"
        )
    return ScopeMissing(
        f"This credential does not carry `{permission.value}`: use a token with the role `write`, "
        "or sign in on the page."
    )


def _require_role(
    actor: Actor, repository: Repository, role: OrganizationRole | None, needed: OrganizationRole
) -> None:
    if actor.is_anonymous:
        raise LoginRequired("You must be signed in to change a repository.", "")
    if role is None or _RANK[role] < _RANK[needed]:
        raise Forbidden(
            f"You need the role `{needed.value}` over {repository.repo_id.namespace} to do this to "
            f"{repository.repo_id}."
        )
