"""Which refs a repository may have, and which of them anybody may see."""

import re

import pygit2

from gatehouse.core.ids import is_oid
from gatehouse.storage.git.errors import InvalidRef
from gatehouse.storage.git.paths import is_unicode

SERVED_PREFIXES = ("refs/heads/", "refs/tags/", "refs/pr/", "refs/convert/")
DEFAULT_BRANCH = "main"
MAX_REF_BYTES = 512
# A file name holds 255 bytes, and git puts `.lock` behind it.
_MAX_PART_BYTES = 240

_HEX_40 = re.compile(r"[0-9a-fA-F]{40}")


def is_served(ref: str) -> bool:
    """Whether `ref` lies where clients may see and name it."""
    return ref.startswith(SERVED_PREFIXES)


def is_wellformed(ref: str) -> bool:
    """Whether `ref` is a full, served ref name that git accepts and a disk can hold."""
    if not is_unicode(ref):
        return False
    encoded = ref.encode()
    return (
        is_served(ref)
        and len(encoded) <= MAX_REF_BYTES
        and b"\0" not in encoded
        and all(len(part) <= _MAX_PART_BYTES for part in encoded.split(b"/"))
        and bool(pygit2.reference_is_valid_name(ref))
    )


def check_ref_name(ref: str) -> str:
    """Return `ref` when it may be created.

    Raises:
        InvalidRef: Not wellformed, or its short name could be taken for something else.
    """
    if not is_wellformed(ref):
        raise InvalidRef(ref, "write `refs/heads/NAME` or `refs/tags/NAME` by git's rules")
    short = ref.split("/", 2)[2]
    # A branch of that name would stand in for the commit that somebody pinned.
    if _HEX_40.fullmatch(short):
        raise InvalidRef(ref, "it looks like a commit")
    if short == "HEAD" or short.startswith(("-", "refs/")):
        raise InvalidRef(ref, f"`{short[:100]}` has another meaning to git")
    return ref


def check_oid(oid: str) -> str:
    """Return `oid` when it is a full object id.

    Raises:
        InvalidRef: It is not.
    """
    if not is_oid(oid):
        raise InvalidRef(oid, "an object id has 40 lower-case hex digits")
    return oid
