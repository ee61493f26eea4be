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


def _special_file(name: str, hashed: str) -> re.Pattern[str]:
    """The folded names that NTFS may know `name` by (git's path.c, is_ntfs_dot_generic).

    Short names are the first six letters and a count, or some of a hash and a longer count.
    """
    counted = [rf"{name[1:7]}~[1-4]"]
    counted += [rf"{hashed[:kept]}~[1-9][0-9]{{{6 - kept}}}" for kept in range(len(hashed) + 1)]
    return re.compile("|".join([re.escape(name), *counted]))


_DOT_GITMODULES = _special_file(".gitmodules", "gi7eba")
_DOT_GITATTRIBUTES = _special_file(".gitattributes", "gi7d29")


def check_path(path: str, *, allow_submodules: bool = False) -> str:
    """Return `path` when a commit may contain a file or folder of that name.

    Args:
        path: Relative to the root of the repository, parts joined by `/`.
        allow_submodules: Accept `.gitmodules`, because git itself checks what is in it.

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
    if any(is_attributes_name(name) for name in names[:-1]):
        raise InvalidPath(path, "`.gitattributes` has to be a file")
    for name in names:
        _check_name(path, name)
        if not allow_submodules and _DOT_GITMODULES.fullmatch(fold_name(name)):
            raise InvalidPath(path, "submodules can only be pushed with git")
    return path


def _check_name(path: str, name: str) -> None:
    if not name:
        raise InvalidPath(path, "it has an empty part; write it relative to the root, like `a/b`")
    if name in (".", ".."):
        raise InvalidPath(path, f"`{name}` is not allowed in it")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise InvalidPath(path, f"one of its parts is longer than {MAX_NAME_BYTES} bytes")
    if fold_name(name) in _DOT_GIT_SHORT_NAMES:
        raise InvalidPath(path, f"`{name}` is, on some file system, git's own folder")


def is_attributes_name(name: str) -> bool:
    """Whether some file system takes `name` for `.gitattributes`, so that git looks into it."""
    return _DOT_GITATTRIBUTES.fullmatch(fold_name(name)) is not None


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
