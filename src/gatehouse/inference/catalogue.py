"""Which models a caller may run, and what they do: for lists that clients choose from.

Decides nothing: each repository is asked about at the one gate.
"""

from collections.abc import Container
from dataclasses import dataclass

from gatehouse.core.errors import NotFound
from gatehouse.core.ids import RepoKind
from gatehouse.identity.actors import Actor
from gatehouse.identity.permissions import Permission
from gatehouse.inference.remote.registrations import RemoteEngines
from gatehouse.inference.tasks import ENGINE_BY_TASK, framework_of, tasks_like
from gatehouse.repos.access import Access
from gatehouse.repos.files import Files
from gatehouse.repos.infos import Infos, RepoInfo
from gatehouse.repos.repositories import Repositories
from gatehouse.repos.repository import Repository

_MAX_LISTED = 1000


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that can be run here, at its main branch.

    Attributes:
        task: The one that its card or its files name.
        needs_pro: Only those who pay may run it.
    """

    repository: Repository
    info: RepoInfo
    task: str
    needs_pro: bool

    @property
    def name(self) -> str:
        return str(self.repository.repo_id)

    @property
    def tasks(self) -> tuple[str, ...]:
        """All that it is served for."""
        return tasks_like(self.task)

    @property
    def framework(self) -> str:
        return framework_of(self.task, self.info)


class Catalogue:
    def __init__(
        self,
        repositories: Repositories,
        access: Access,
        files: Files,
        infos: Infos,
        remote_engines: RemoteEngines,
        pro_models: Container[Repository],
    ) -> None:
        self._repositories = repositories
        self._access = access
        self._files = files
        self._infos = infos
        self._remote_engines = remote_engines
        self._pro_models = pro_models

    def models(self, actor: Actor) -> list[ServedModel]:
        """Those that `actor` may run, last changed first; a plan may ask for more. Blocking."""
        visible = self._repositories.list_visible(actor, RepoKind.MODEL, limit=_MAX_LISTED)
        found = (
            self.model(repository)
            for repository in visible
            if self._access.allows(actor, repository, Permission.INFERENCE_RUN)
        )
        return [model for model in found if model is not None]

    def model(self, repository: Repository) -> ServedModel | None:
        """What can be run of a repository, or None. Blocking."""
        try:
            commit_oid = self._files.commit_oid(repository, "main")
        except NotFound:  # it is empty, or has gone meanwhile
            return None
        info = self._remote_engines.described(repository, self._infos.at(repository, commit_oid))
        is_remote = self._remote_engines.find(repository) is not None
        if info.task not in ENGINE_BY_TASK or not (is_remote or _has_weights(info)):
            return None
        return ServedModel(repository, info, info.task, repository in self._pro_models)


def _has_weights(info: RepoInfo) -> bool:
    return any(
        file.path.endswith((".safetensors", ".safetensors.index.json"))
        and not file.path.startswith("adapter_")
        and "/" not in file.path
        for file in info.files
    )
