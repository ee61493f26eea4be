"""The small text that stands in a git tree for a large file.

It knows the text form only, not whether the object exists. Format: git-lfs `docs/spec.md`, v1.
"""

import re
from dataclasses import dataclass

# A blob of this many bytes or more is never a pointer, so readers need not look into it.
POINTER_SIZE_LIMIT = 1024

_MAX_SIZE = 2**63 - 1
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n"
    rb"(?:ext-[0-9]-[0-9A-Za-z_]+ sha256:[0-9a-f]{64}\n)*"
    rb"oid sha256:([0-9a-f]{64})\n"
    rb"size (0|[1-9][0-9]{0,18})\n"
)


@dataclass(frozen=True, slots=True)
class Pointer:
    """What a pointer says of the real content: its SHA-256 in lower-case hex, its size in bytes."""

    oid: str
    size: int

    def to_bytes(self) -> bytes:
        """The one canonical text, as git-lfs writes it."""
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.oid}\nsize {self.size}\n"
        ).encode()


def parse_pointer(data: bytes) -> Pointer | None:
    """Read a pointer, or return None if the bytes are not one.

    Only what git-lfs writes is a pointer: this order of lines, one newline after each, no spare
    space. Lines of extensions are skipped. An empty blob is an empty file, not a pointer.
    """
    if len(data) >= POINTER_SIZE_LIMIT:
        return None
    match = _POINTER.fullmatch(data)
    if match is None or int(match[2]) > _MAX_SIZE:
        return None
    return Pointer(match[1].decode(), int(match[2]))
