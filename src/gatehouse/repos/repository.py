"""A repository as the rest of Gatehouse sees it: its name, its owner, and who may read it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

from gatehouse.core.ids import RepoId, RepoKind


class Visibility(StrEnum):
    PUBLIC = "public"
    PRIVATE = "private"


class Gate(StrEnum):
    """How people pass the gate of a repository: there is none, by asking, or by being let in."""

    OPEN = "open"
    AUTO = "auto"
    MANUAL = "manual"

    @property
    def wire(self) -> str | bool:
        """What clients read as `gated`."""
        return False if self is Gate.OPEN else self.value

    @classmethod
    def from_wire(cls, value: str | Literal[False]) -> "Gate":
        return cls(value) if value else cls.OPEN


@dataclass(frozen=True, slots=True)
class Repository:
    """A snapshot of one repository's row.

    Attributes:
        id: The row's key. A deleted repository's id is not given again.
        storage_id: Random; names its folder.
        generation: Changes whenever the readers may have changed.
    """

    id: int
    storage_id: str
    kind: RepoKind
    repo_id: RepoId
    owner_id: int
    visibility: Visibility
    gate: Gate
    generation: int
    downloads: int
    created_at: datetime
    updated_at: datetime

    @property
    def is_private(self) -> bool:
        return self.visibility is Visibility.PRIVATE

    @property
    def is_gated(self) -> bool:
        return self.gate is not Gate.OPEN

    @property
    def path(self) -> str:
        """Its address below the base URL: `org/name`, `datasets/org/name`."""
        return f"{self.kind.url_prefix}{self.repo_id}"
