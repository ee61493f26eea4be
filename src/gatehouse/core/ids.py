"""Names and identifiers that every room shares."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from gatehouse.core.errors import Invalid

_NAME_PART = re.compile(r"[A-Za-z0-9_](?:[\w\-.]{0,94}[A-Za-z0-9_])?", re.ASCII)
_OID = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class RepoKind(StrEnum):
    """What a repository holds. The value is what clients send as `type`."""

    MODEL = "model"
    DATASET = "dataset"
    SPACE = "space"

    @property
    def plural(self) -> str:
        """The segment in API paths: `models`, `datasets`, `spaces`."""
        return f"{self.value}s"

    @property
    def url_prefix(self) -> str:
        """What stands before `namespace/name` in page, resolve and git paths."""
        return "" if self is RepoKind.MODEL else f"{self.plural}/"

    @classmethod
    def from_plural(cls, segment: str) -> Self:
        return cls(segment.removesuffix("s"))


@dataclass(frozen=True, slots=True)
class RepoId:
    """`namespace/name`, as written by people; lookups fold case."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `namespace/name`.

        Raises:
            Invalid: Not two valid parts.
        """
        namespace, slash, name = text.partition("/")
        if not slash:
            raise Invalid(f"`{text[:100]}` is not a repository id: write `namespace/name`.")
        return cls(check_name_part(namespace, "namespace"), check_name_part(name, "name"))


def check_name_part(text: str, field: str) -> str:
    """Return `text` if clients accept it as one part of a repository id.

    The rule is the clients' own (`huggingface_hub.utils.validate_repo_id`): 1 to 96 of letters,
    digits, `-`, `_` and `.`, no `--` or `..`, not starting or ending in `-` or `.`, not ending in
    `.git`.

    Raises:
        Invalid: The rule is broken.
    """
    if not _NAME_PART.fullmatch(text) or "--" in text or ".." in text or text.endswith(".git"):
        raise Invalid(
            f"`{field}` must be 1 to 96 of letters, digits, `-`, `_` and `.`, without `--` or "
            "`..`, not starting or ending in `-` or `.`, not ending in `.git`. "
            f"Given: `{text[:100]}`."
        )
    return text


def is_oid(text: str) -> bool:
    """Whether `text` is a full git object id (40 lower-case hex digits)."""
    return _OID.fullmatch(text) is not None


def is_sha256(text: str) -> bool:
    """Whether `text` is a SHA-256 in lower-case hex."""
    return _SHA256.fullmatch(text) is not None
