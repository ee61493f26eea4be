"""How the real git program is started: the same on every machine, for everybody."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

_FOLDER = Path(__file__).parent
HOOKS_FOLDER = _FOLDER / "hooks"
_SERVING_CONFIG = _FOLDER / "serving.gitconfig"

_KNOWN_PROTOCOL = re.compile(r"version=[012]")


def command(*arguments: str | Path) -> list[str]:
    """The command line `git ARGUMENTS…`."""
    return ["git", *map(str, arguments)]


def environment(protocol: str | None = None, alternates: Sequence[Path] = ()) -> Mapping[str, str]:
    """All that the git program may know of its surroundings.

    Args:
        protocol: The client's `Git-Protocol` header. Only a version that git knows is passed on;
            a server ignores the rest (`gitprotocol-v2`).
        alternates: Folders of objects to read besides the repository's own.
    """
    variables = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(_SERVING_CONFIG),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
    }
    if protocol is not None and _KNOWN_PROTOCOL.fullmatch(protocol):
        variables["GIT_PROTOCOL"] = protocol
    if alternates:
        variables["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = ":".join(map(_quote, alternates))
    return variables


def _quote(path: Path) -> str:
    """Quote a path as C would, or git would split it at each colon."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
