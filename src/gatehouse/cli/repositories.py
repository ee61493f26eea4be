"""Finds the model that an operator names. Whoever can write the data folder passes every gate."""

from gatehouse.cli.workspace import Workspace
from gatehouse.core.clock import SystemClock
from gatehouse.core.ids import RepoId, RepoKind
from gatehouse.repos.access import Access
from gatehouse.repos.gating import GrantedUsers
from gatehouse.repos.repositories import Repositories
from gatehouse.repos.repository import Repository


def open_repositories(workspace: Workspace) -> Repositories:
    access = Access(GrantedUsers(workspace.database))
    folder = workspace.settings.data_dir.resolve() / "git"
    return Repositories(workspace.database, access, SystemClock(), folder)


def find_model(workspace: Workspace, name: str) -> Repository:
    """The model `namespace/name`.

    Raises:
        Invalid: This is no such name.
        RepoNotFound: There is no such model.
    """
    return open_repositories(workspace).by_name(RepoKind.MODEL, RepoId.parse(name))
