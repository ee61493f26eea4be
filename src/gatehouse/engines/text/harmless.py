"""What foreign code says, without what it must not tell: places in memory, places on the disk."""

import re
from typing import Any

_LONGEST_REASON = 300
_UNKNOWN = "unknown error"
_PLACE = " at 0x"
# As Python shows what has no words of its own: `<function f.<locals>.g at 0x7f…>`.
_OBJECT = re.compile(r"<[\w.' ]+(?:<[\w.]+>[\w.' ]*)* at 0x[0-9a-fA-F]+>+")
_REST = re.compile(r" at 0x[0-9a-fA-F]{6,}")
_PATH = re.compile(r"(?<![\w<])/(?:[\w.+-]+/)+[\w.+-]*")


def harmless_reason(message: str) -> str:
    """The first line of a message, for the caller."""
    line = next(iter(message.strip().splitlines()), _UNKNOWN)
    line = _REST.sub("", _OBJECT.sub("an object", line))
    return _PATH.sub("a file", line)[:_LONGEST_REASON]


def without_objects(text: str, said: Any) -> str:
    """A template's output in which no object shows its place in memory.

    Args:
        text: The output.
        said: JSON values that went in. What stands in one of them is nobody's secret: people paste
            such lines.
    """
    if _PLACE not in text:
        return text
    known = "\n".join(_texts(said))

    def shown(found: re.Match[str], replacement: str) -> str:
        return found[0] if found[0] in known else replacement

    text = _OBJECT.sub(lambda found: shown(found, "an object"), text)
    return _REST.sub(lambda found: shown(found, ""), text)


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return _texts([*value.keys(), *value.values()])
    if isinstance(value, list | tuple):
        return [text for inner in value for text in _texts(inner)]
    return []
