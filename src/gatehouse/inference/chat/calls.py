"""Calls of tools in a model's text: whole ones read, and what only looks like one refused."""

from collections.abc import Collection
from dataclasses import dataclass

import msgspec


class _Written(msgspec.Struct):
    name: str
    arguments: msgspec.Raw = msgspec.Raw()
    parameters: msgspec.Raw = msgspec.Raw()


@dataclass(frozen=True, slots=True)
class Call:
    """A tool and the JSON text of its arguments' object."""

    name: str
    arguments: str


_one = msgspec.json.Decoder(_Written)
_several = msgspec.json.Decoder(list[_Written])


def read_calls(text: str, names: Collection[str]) -> list[Call]:
    """The calls in the JSON text of an object, or of a list of them; none if it is anything else.

    Args:
        text: JSON, or not.
        names: Of the tools there are.
    """
    try:
        written = _several.decode(text) if text.startswith("[") else [_one.decode(text)]
        calls = [Call(call.name, _arguments(call)) for call in written]
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return []
    return calls if all(call.name in names for call in calls) else []


def _arguments(call: _Written) -> str:
    """Raises `msgspec.DecodeError` unless they are an object, or its text as a string."""
    raw = bytes(call.arguments or call.parameters) or b"{}"
    value = msgspec.json.decode(raw, type=dict[str, object] | str)
    if isinstance(value, str):
        msgspec.json.decode(value, type=dict[str, object])
        return value
    return raw.decode()
