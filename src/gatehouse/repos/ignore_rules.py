"""Which files a `.gitignore` leaves out of an upload. See gitignore(5)."""

import re
from dataclasses import dataclass

from gatehouse.repos.path_patterns import PathPattern

_MAX_RULES = 1_000
_TRAILING_BLANKS = re.compile(rb"(?<!\\) +\Z")


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: PathPattern
    ignores: bool


class IgnoreRules:
    """The rules of one file at the root; the last one that matches wins, and folders take along."""

    def __init__(self, text: str) -> None:
        lines = text.encode("utf-8", "surrogatepass").split(b"\n")
        rules = [rule for line in lines if (rule := _parse(line)) is not None]
        self._rules = rules[-_MAX_RULES:]

    def is_ignored(self, path: str) -> bool:
        names = path.encode("utf-8", "surrogatepass").split(b"/")
        folders = (b"/".join(names[:depth]) for depth in range(1, len(names)))
        # What lies in an ignored folder cannot be taken back in.
        if any(self._ignores(folder, is_folder=True) for folder in folders):
            return True
        return self._ignores(b"/".join(names), is_folder=False)

    def _ignores(self, path: bytes, *, is_folder: bool) -> bool:
        for rule in reversed(self._rules):
            if (is_folder or not rule.pattern.only_folders) and rule.pattern.matches(path):
                return rule.ignores
        return False


def _parse(line: bytes) -> _Rule | None:
    line = _TRAILING_BLANKS.sub(b"", line.removesuffix(b"\r"))
    if not line or line.startswith(b"#"):
        return None
    pattern = line.removeprefix(b"!")
    return _Rule(PathPattern.compile(pattern), ignores=pattern == line)
