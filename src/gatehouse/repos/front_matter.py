"""YAML front matter as JSON values, read from bytes that strangers wrote.

Built on the parser's events instead of its object constructors: no tag can make an object, aliases
cannot multiply, and nesting is bounded. Knows nothing of what the keys mean.
"""

import math
import re
from collections.abc import Iterator
from typing import TypeAlias

import yaml

from gatehouse.core.errors import Invalid

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

MAX_FRONT_MATTER_BYTES = 64 * 1024
MAX_DEPTH = 20
MAX_VALUES = 20_000
_MAX_DIGITS = 300
_CORE_TAG = "tag:yaml.org,2002:"
_CORE_KINDS = frozenset({"str", "null", "bool", "int", "float", "timestamp", "map", "seq"})

_ValueEvent: TypeAlias = yaml.ScalarEvent | yaml.SequenceStartEvent | yaml.MappingStartEvent
_VALUE_EVENTS = (yaml.ScalarEvent, yaml.SequenceStartEvent, yaml.MappingStartEvent)
_Loader: type[yaml.SafeLoader | yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# YAML 1.2's core schema rather than PyYAML's 1.1: `language: no` is Norwegian, a date is the text
# that was written, and `12:30` is not a number.
_NULL = re.compile(r"(?:~|null|Null|NULL)?")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")


class InvalidFrontMatter(Invalid):
    """The front matter cannot be read; the message names the line of the file."""


def read_front_matter(text: str, first_line: int = 1) -> dict[str, JsonValue]:
    """Read one YAML mapping.

    Args:
        text: The YAML without its fences.
        first_line: The line of the file that `text` starts at, for messages.

    Raises:
        InvalidFrontMatter: Not YAML, not a mapping, or over a bound.
    """
    encoded = _encoded(text)
    if len(encoded) > MAX_FRONT_MATTER_BYTES:
        limit = MAX_FRONT_MATTER_BYTES // 1024
        raise InvalidFrontMatter(f"The front matter is larger than {limit} KiB.")
    try:
        return _Reader(yaml.parse(encoded, Loader=_Loader), first_line).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" on line {mark.line + first_line}" if mark else ""
        problem = error.problem or error.context or "it cannot be parsed"
        raise InvalidFrontMatter(f"The front matter is not valid YAML{where}: {problem}.") from None
    except yaml.YAMLError as error:
        detail = str(error).partition("\n")[0]
        raise InvalidFrontMatter(f"The front matter is not valid YAML: {detail}.") from None


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidFrontMatter("The front matter holds half of a surrogate pair.") from None


class _Reader:
    """One walk over the events of one document. `yaml` has no types for its events."""

    def __init__(self, events: Iterator[yaml.Event], first_line: int) -> None:
        self._events = events
        self._first_line = first_line
        self._num_values = 0
        self._anchors: dict[str, tuple[JsonValue, int]] = {}

    def document(self) -> dict[str, JsonValue]:
        next(self._events)  # the start of the stream
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return {}
        root = self._value(next(self._events), 0)
        next(self._events)  # the end of the document
        if not isinstance(next(self._events), yaml.StreamEndEvent):
            raise InvalidFrontMatter("The front matter holds more than one YAML document.")
        if root is None:
            return {}
        if not isinstance(root, dict):
            raise InvalidFrontMatter(
                "The front matter must be a mapping: lines that look like `key: value`."
            )
        return root

    def _value(self, event: yaml.Event, depth: int) -> JsonValue:
        self._count(event, 1)
        if depth > MAX_DEPTH:
            raise self._error(event, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        assert isinstance(event, _VALUE_EVENTS)
        before = self._num_values
        value = self._node(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._num_values - before + 1)
        return value

    def _node(self, event: _ValueEvent, depth: int) -> JsonValue:
        self._check_tag(event)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(depth)
        return self._mapping(depth)

    def _sequence(self, depth: int) -> list[JsonValue]:
        items: list[JsonValue] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, depth + 1))
        return items

    def _mapping(self, depth: int) -> dict[str, JsonValue]:
        mapping: dict[str, JsonValue] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event)
            if key in mapping:
                raise self._error(event, f"`{key[:100]}` is given twice")
            mapping[key] = self._value(next(self._events), depth + 1)
        return mapping

    def _key(self, event: yaml.Event) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise self._error(event, "a key must be plain text")
        if event.implicit[0] and event.value == "<<":
            raise self._error(event, "merge keys (`<<`) are not supported")
        return self._text(event)

    def _alias(self, event: yaml.AliasEvent) -> JsonValue:
        if event.anchor not in self._anchors:
            raise self._error(event, f"`*{event.anchor}` refers to nothing before it")
        value, num_values = self._anchors[event.anchor]
        # What an alias stands for counts again each time: a small file cannot stand for a huge one.
        self._count(event, num_values)
        return value

    def _scalar(self, event: yaml.ScalarEvent) -> JsonValue:
        text = self._text(event)
        if not event.implicit[0]:
            return text
        if _NULL.fullmatch(text):
            return None
        if _BOOL.fullmatch(text):
            return text.lower() == "true"
        if len(text) > _MAX_DIGITS:
            return text
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            number = float(text)
            return number if math.isfinite(number) else text
        return text

    def _text(self, event: yaml.ScalarEvent) -> str:
        text: str = event.value
        if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            raise self._error(event, "a text holds a character that cannot be stored")
        return text

    def _check_tag(self, event: _ValueEvent) -> None:
        tag: str | None = event.tag
        if tag in (None, "!") or tag.removeprefix(_CORE_TAG) in _CORE_KINDS:
            return
        raise self._error(event, f"the tag `{tag[:100]}` is not supported")

    def _count(self, event: yaml.Event, num_values: int) -> None:
        self._num_values += num_values
        if self._num_values > MAX_VALUES:
            raise self._error(event, f"it stands for more than {MAX_VALUES} values")

    def _error(self, event: yaml.Event, problem: str) -> InvalidFrontMatter:
        mark = event.start_mark
        line = self._first_line + (mark.line if mark else 0)
        return InvalidFrontMatter(f"The front matter cannot be used, line {line}: {problem}.")
