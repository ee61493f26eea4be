"""From a repository and a revision to what a host loads. Who may run it was decided before."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from gatehouse.core.remembered import RememberedUntilChange
from gatehouse.engines.base import EngineOptions, WeightFormat
from gatehouse.inference.errors import ModelNotServable
from gatehouse.inference.lifecycle.messages import ModelSource, described
from gatehouse.inference.lifecycle.model_folders import ModelFile, ModelFolders
from gatehouse.inference.tasks import ENGINE_BY_TASK, TEXT_GENERATION
from gatehouse.repos.files import File, Files
from gatehouse.repos.infos import Infos
from gatehouse.repos.repository import Repository

_CACHED_SOURCES = 1_000


class TaskNotSupported(ModelNotServable):
    def __init__(self, task: str, name: str) -> None:
        super().__init__(f"{task} is not supported for {name}")


class ModelSources:
    """Reads git, and makes the model's folder if there is none: call it in a thread.

    Args:
        files: What is in repositories.
        infos: What repositories say of themselves.
        folders: Where models are put together.
        options_of: How a model is to be run.
        version: See `Database.version`.
    """

    def __init__(
        self,
        files: Files,
        infos: Infos,
        folders: ModelFolders,
        options_of: Callable[[Repository], EngineOptions] = lambda _: EngineOptions(),
        version: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._files = files
        self._infos = infos
        self._folders = folders
        self._options_of = options_of
        self._cached = lru_cache(_CACHED_SOURCES)(self._make)
        # Whoever moves a branch notes it in the database, before the push is acknowledged.
        self._found = RememberedUntilChange[tuple[Repository, str], ModelSource](version)

    def at(self, repository: Repository, revision: str) -> ModelSource:
        """The model as a branch, tag or commit has it now.

        Raises:
            RevisionNotFound: No such branch, tag or commit.
            ModelNotServable: Its task is another, or it has no weights that can be loaded.
        """
        named = (repository, revision)
        source = self._found.get(named, lambda: self._find(*named))
        if not Path(source.folder).is_dir():  # folders are a cache too, and may be deleted
            source = self._make(_Key(repository, source.commit_oid, source.options))
        return source

    def remembered(self, repository: Repository, revision: str) -> ModelSource | None:
        """What `at` would return, if nothing has to be read for it; does not block."""
        source = self._found.peek((repository, revision))
        return source if source is not None and Path(source.folder).is_dir() else None

    def _find(self, repository: Repository, revision: str) -> ModelSource:
        commit_oid = self._files.commit_oid(repository, revision)
        return self._cached(_Key(repository, commit_oid, self._options_of(repository)))

    def _make(self, key: "_Key") -> ModelSource:
        repository, commit_oid = key.repository, key.commit_oid
        info = self._infos.at(repository, commit_oid)
        name = str(repository.repo_id)
        task = info.task or TEXT_GENERATION
        if task not in ENGINE_BY_TASK:
            raise TaskNotSupported(task, name)
        files = [self._model_file(repository, file) for file in info.files]
        folder = self._folders.make(repository.storage_id, files)
        return ModelSource(
            key=f"{repository.storage_id}:{ENGINE_BY_TASK[task]}:{folder.digest}"
            f"{described(key.options)}",
            commit_oid=commit_oid,
            name=name,
            folder=str(folder.path),
            weight_bytes=folder.weight_bytes,
            cache_bytes=folder.cache_bytes,
            engine=ENGINE_BY_TASK[task],
            keeps_answers=keeps_answers(info.metadata),
            options=_with_copies(key.options, folder.copies),
            task=task,
        )

    def _model_file(self, repository: Repository, file: File) -> ModelFile:
        local = self._files.local_path(file)
        return ModelFile(
            file.path, file.etag, file.size, local, lambda: self._files.read(repository, file)
        )


def _with_copies(options: EngineOptions, copies: Path) -> EngineOptions:
    """Tells a host that makes something of the weights where it may keep that."""
    if options.weight_format is WeightFormat.STORED:
        return options
    return replace(options, copies_folder=str(copies))


def keeps_answers(metadata: dict[str, Any]) -> bool:
    """Whether answers may be kept: False where the card says `inference: {cache: false}`."""
    inference = metadata.get("inference")
    return not (isinstance(inference, dict) and inference.get("cache") is False)


@dataclass(frozen=True, slots=True, eq=False)
class _Key:
    """Equal for the same files under the same name, whatever else the row says."""

    repository: Repository
    commit_oid: str
    options: EngineOptions

    @property
    def identity(self) -> tuple[str, str, str, EngineOptions]:
        name = str(self.repository.repo_id)
        return (self.repository.storage_id, self.commit_oid, name, self.options)

    def __hash__(self) -> int:
        return hash(self.identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.identity == self.identity
