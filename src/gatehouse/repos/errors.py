"""What can go wrong with a repository. The `code`s are the ones Hub clients read."""

from gatehouse.core.errors import Conflict, Forbidden, GatehouseError, NotFound
from gatehouse.core.ids import RepoId, RepoKind


class RepoNotFound(NotFound):
    """There is no such repository, or this actor may not know of it: the two look the same."""

    code = "RepoNotFound"


class RepoExists(Conflict):
    """The name is taken. Clients read the repository's address from the answer."""

    def __init__(self, kind: RepoKind, repo_id: RepoId) -> None:
        super().__init__(f"You already created this {kind.value} repo: {repo_id}")
        self.kind = kind
        self.repo_id = repo_id


class RepoMoved(GatehouseError):
    """The repository has a new name; the edge redirects."""

    def __init__(self, kind: RepoKind, old: RepoId, new: RepoId) -> None:
        super().__init__(f"{old} is now {new}.")
        self.kind = kind
        self.old = old
        self.new = new


class GateNotAccepted(Forbidden):
    """The repository is gated and this actor was not let in."""

    code = "GatedRepo"


class ScopeMissing(Forbidden):
    """The credential cannot be used for this, whoever holds it."""
