"""Before an upload: which files go as large files, which are ignored, and what is there already."""

from collections.abc import Iterable
from dataclasses import dataclass

from gatehouse.repos.files import Files
from gatehouse.repos.ignore_rules import IgnoreRules
from gatehouse.repos.lfs_rules import LfsRules
from gatehouse.repos.repository import Repository
from gatehouse.storage.git.paths import check_path

_ATTRIBUTES_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Announced:
    """A file that a client is about to upload; `sample` is its first bytes."""

    path: str
    size: int
    sample: bytes


@dataclass(frozen=True, slots=True)
class UploadPlan:
    """How one file should be sent.

    Attributes:
        oid: What the repository holds at this path now: SHA-256 of a large file, git's id of
            another.
    """

    path: str
    is_large: bool
    is_ignored: bool
    oid: str | None


class Uploads:
    def __init__(self, files: Files, lfs_threshold: int, max_regular: int) -> None:
        self._files = files
        self._lfs_threshold = lfs_threshold
        self._max_regular = max_regular

    def plan(
        self,
        repository: Repository,
        commit_oid: str,
        announced: Iterable[Announced],
        gitignore: str | None,
        gitattributes: str | None,
    ) -> list[UploadPlan]:
        announced = list(announced)
        for file in announced:
            check_path(file.path)
        rules = LfsRules(self._attributes(repository, commit_oid, gitattributes))
        ignored = IgnoreRules(gitignore or "")
        present = self._files.paths(repository, commit_oid, (file.path for file in announced))
        oids = {file.path: file.etag for file in present if not file.is_directory}
        return [
            UploadPlan(
                path=file.path,
                is_large=self._is_large(file, rules),
                is_ignored=ignored.is_ignored(file.path),
                oid=oids.get(file.path),
            )
            for file in announced
        ]

    def _attributes(self, repository: Repository, commit_oid: str, given: str | None) -> bytes:
        if given is not None:
            return given.encode("utf-8", "surrogatepass")
        limit = _ATTRIBUTES_BYTES
        data = self._files.read_small(repository, commit_oid, ".gitattributes", limit)
        return data or b""

    def _is_large(self, file: Announced, rules: LfsRules) -> bool:
        """Clients send empty files inside the commit whatever we say."""
        if file.size == 0:
            return False
        if file.size > self._max_regular or rules.is_lfs(file.path):
            return True
        return file.size >= self._lfs_threshold and b"\0" in file.sample
