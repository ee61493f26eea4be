"""Which paths a commit may contain.

The rules are git's own (`git fsck`, `verify_path`), so that every checkout on every file system is
safe, plus a few of ours that keep paths printable and bounded.
"""

import re

from gatehouse.storage.git.errors import InvalidPath

MAX_PATH_BYTES = 1024
MAX_NAME_BYTES = 255
MAX_DEPTH = 64

# Code points that HFS+ ignores when it compares names: `.g<U+200C>it` is `.git` there
# (git's utf8.c, next_hfs_char).
_HFS_IGNORED = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
_DOT_GIT_SHORT_NAMES = frozenset({".git", "git~1"})
# What NTFS makes of `.gitmodules` as an 8.3 name (git's path.c, is_ntfs_dot_generic).
_DOT_GITMODULES = re.compile(r"\.gitmodules|gitmod~[1-4]|gi7[0-9a-f]{3}~[1-9]|gi7eba~[1-9]")


def check_path(path: str) -> str:
    """Return `path` when a commit may contain a file or folder of that name.

    Raises:
        InvalidPath: It breaks a rule; the message says which.
    """
    if not is_unicode(path):
        raise InvalidPath(path, "it is not valid Unicode")
    if not path:
        raise InvalidPath(path, "it is empty")
    if len(path.encode()) > MAX_PATH_BYTES:
        raise InvalidPath(path, f"it is longer than {MAX_PATH_BYTES} bytes")
    if "\\" in path:
        raise InvalidPath(path, "use `/` between folders, not a backslash")
    if any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in path):
        raise InvalidPath(path, "it has a control character")
    names = path.split("/")
    if len(names) > MAX_DEPTH:
        raise InvalidPath(path, f"it has more than {MAX_DEPTH} folders")
    for name in names:
        _check_name(path, name)
    return path


def _check_name(path: str, name: str) -> None:
    if not name:
        raise InvalidPath(path, "it has an empty part; write it relative to the root, like `a/b`")
    if name in (".", ".."):
        raise InvalidPath(path, f"`{name}` is not allowed in it")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise InvalidPath(path, f"one of its parts is longer than {MAX_NAME_BYTES} bytes")
    folded = fold_name(name)
    if folded in _DOT_GIT_SHORT_NAMES:
        raise InvalidPath(path, f"`{name}` is, on some file system, git's own folder")
    if _DOT_GITMODULES.fullmatch(folded):
        raise InvalidPath(path, "submodules can only be pushed with git")


def fold_name(name: str) -> str:
    """What the least careful file system would take `name` for.

    HFS+ ignores case and some code points; NTFS ignores case, what follows a `:` (a stream), and
    dots and spaces at the end.
    """
    visible = _HFS_IGNORED.sub("", name)
    return visible.partition(":")[0].rstrip(". ").casefold()


def is_unicode(text: str) -> bool:
    """Whether `text` can be written as UTF-8: JSON can carry halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
