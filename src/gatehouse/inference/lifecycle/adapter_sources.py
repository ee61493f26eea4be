"""From an adapter's repository to what a host reads. Who may use it was decided before."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from gatehouse.core.remembered import RememberedUntilChange
from gatehouse.engines.base import AdapterFolder
from gatehouse.inference.errors import ValidationFailed
from gatehouse.inference.lifecycle.model_folders import ModelFile, ModelFolders
from gatehouse.inference.lifecycle.model_sources import keeps_answers
from gatehouse.repos.files import File, Files
from gatehouse.repos.infos import Infos
from gatehouse.repos.repository import Repository

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_PICKLE = re.compile(r"adapter_model\.(?:bin|pt|pth|ckpt|pkl)")
# Of a rank of 256 over all layers of the largest model that a processor runs; few have a tenth.
MAX_WEIGHT_BYTES = 4 * 1024**3
_MAX_CONFIG_BYTES = 1024**2
_CACHED_SOURCES = 1_000


class AdapterNotServable(ValidationFailed):
    """The repository holds no adapter that can be read; the message says why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"`adapter_id` {name} {reason}")


@dataclass(frozen=True, slots=True)
class AdapterSource:
    """An adapter at one commit.

    Attributes:
        name: The repository's id.
        folder: For the host.
        version: Changes with what the adapter does, and with who may know of it.
        keeps_answers: False if its owner wants no answer of it in the response cache.
    """

    name: str
    folder: AdapterFolder
    version: str
    keeps_answers: bool


class AdapterSources:
    """Reads git, and makes the adapter's folder if there is none: call it in a thread.

    Args:
        files: What is in repositories.
        infos: What repositories say of themselves.
        folders: Where models and adapters are put together.
        version: See `Database.version`.
    """

    def __init__(
        self,
        files: Files,
        infos: Infos,
        folders: ModelFolders,
        version: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._files = files
        self._infos = infos
        self._folders = folders
        self._cached = lru_cache(_CACHED_SOURCES)(self._folder)
        # Whoever moves a branch notes it in the database, before the push is acknowledged.
        self._found = RememberedUntilChange[tuple[Repository, str], AdapterSource](version)

    def at(self, repository: Repository, revision: str) -> AdapterSource:
        """The adapter as a branch, tag or commit has it now.

        Raises:
            RevisionNotFound: No such branch, tag or commit.
            AdapterNotServable: It is no adapter, or one whose weights are never read.
        """
        named = (repository, revision)
        source = self._found.get(named, lambda: self._find(*named))
        if not Path(source.folder.folder).is_dir():  # folders are a cache, and may be deleted
            self._cached.cache_clear()
            source = self._find(*named)
        return source

    def remembered(self, repository: Repository, revision: str) -> AdapterSource | None:
        """What `at` would return, if nothing has to be read for it; does not block."""
        source = self._found.peek((repository, revision))
        is_there = source is not None and Path(source.folder.folder).is_dir()
        return source if is_there else None

    def _find(self, repository: Repository, revision: str) -> AdapterSource:
        commit_oid = self._files.commit_oid(repository, revision)
        folder = self._cached(repository, commit_oid)
        version = f"{folder.key}:{repository.generation}:{commit_oid}"
        metadata = self._infos.at(repository, commit_oid).metadata
        return AdapterSource(str(repository.repo_id), folder, version, keeps_answers(metadata))

    def _folder(self, repository: Repository, commit_oid: str) -> AdapterFolder:
        files = {file.path: file for file in self._infos.at(repository, commit_oid).files}
        wanted = [self._model_file(repository, file) for file in _wanted(repository, files)]
        path, digest = self._folders.put(repository.storage_id, wanted)
        return AdapterFolder(f"{repository.storage_id}:{digest}", str(path))

    def _model_file(self, repository: Repository, file: File) -> ModelFile:
        local = self._files.local_path(file)
        return ModelFile(
            file.path, file.etag, file.size, local, lambda: self._files.read(repository, file)
        )


def _wanted(repository: Repository, files: dict[str, File]) -> tuple[File, File]:
    """The two files of an adapter."""
    name = str(repository.repo_id)
    config, weights = files.get(CONFIG_FILE), files.get(WEIGHTS_FILE)
    if config is None:
        raise AdapterNotServable(name, f"is no adapter: it has no `{CONFIG_FILE}`")
    if weights is None:
        pickle = next(filter(_PICKLE.fullmatch, sorted(files)), None)
        if pickle is None:
            raise AdapterNotServable(name, f"has no `{WEIGHTS_FILE}`")
        raise AdapterNotServable(
            name,
            f"has its weights only as `{pickle}`, a format that can hold code and is never "
            f"loaded: safetensors only. Load it with PEFT and call `save_pretrained`",
        )
    if config.size > _MAX_CONFIG_BYTES or weights.size > MAX_WEIGHT_BYTES:
        raise AdapterNotServable(name, "is too large for an adapter")
    return config, weights
