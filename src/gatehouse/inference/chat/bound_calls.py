"""Reads calls of tools in a text that a grammar binds to them, while it comes. Pure text.

What is between the calls is known beforehand, so nothing has to be held back.
"""

import re
from enum import Enum, auto

from gatehouse.inference.chat.deltas import CallArguments, CallEnd, CallStart, Delta, Text
from gatehouse.inference.chat.dialects import Dialect
from gatehouse.inference.chat.json_extent import JsonExtent
from gatehouse.inference.chat.markers import split_settled

# The head of a call as `grammars` lets the model write it.
_HEAD = re.compile(r'\{"name": "([^"]*)", "(?:arguments|parameters)": (?=\{)')
# What stands around calls, besides the markers.
_LAYOUT = " \t\r\n,;[]}"


class _Place(Enum):
    IN_TEXT = auto()
    IN_HEAD = auto()
    IN_ARGUMENTS = auto()


class BoundCalls:
    """Passes a text on, its calls as calls, their arguments piece by piece.

    Args:
        dialect: How calls are written. With an opening, there may be text before it.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._place = _Place.IN_TEXT if dialect.opening else _Place.IN_HEAD
        self._held = ""
        self._extent = JsonExtent()
        self.num_calls = 0

    @property
    def is_mid_call(self) -> bool:
        return self._place is _Place.IN_ARGUMENTS

    def feed(self, piece: str) -> list[Delta]:
        """Add text and return what can be said now."""
        self._held += piece
        deltas: list[Delta] = []
        while self._read(deltas):
            pass
        return deltas

    def flush(self) -> list[Delta]:
        """The rest, when no more will come: nothing, unless the text was not bound after all."""
        text, self._held = self._held, ""
        if self.is_mid_call or (self.num_calls and self._place is _Place.IN_HEAD):
            return []
        if self.num_calls and not text.strip():
            return []
        return [Text(text)] if text else []

    def _read(self, deltas: list[Delta]) -> bool:
        """Read on; false if more text is needed."""
        if self._place is _Place.IN_TEXT:
            return self._read_text(deltas)
        if self._place is _Place.IN_HEAD:
            return self._read_head(deltas)
        return self._read_arguments(deltas)

    def _read_text(self, deltas: list[Delta]) -> bool:
        opening = self._dialect.opening
        if not opening:
            deltas += [Text(self._held)] if self._held else []
            self._held = ""
            return False
        settled, self._held = split_settled(self._held, opening)
        if settled:
            deltas.append(Text(settled))
        candidate = self._held.lstrip()
        if not candidate.startswith(opening):
            return False
        self._held = candidate[len(opening) :]
        self._place = _Place.IN_HEAD
        return True

    def _read_head(self, deltas: list[Delta]) -> bool:
        closing = self._dialect.closing
        self._held = self._held.lstrip(_LAYOUT)
        if closing and self._held.startswith(closing):
            self._held = self._held[len(closing) :]
            self._place = _Place.IN_TEXT
            return True
        found = _HEAD.match(self._held)
        if found is not None:
            deltas.append(CallStart(self.num_calls, found.group(1)))
            self._held = self._held[found.end() :]
            self._extent = JsonExtent()
            self._place = _Place.IN_ARGUMENTS
            return True
        may_become_one = self._held[:1] == "{" or closing.startswith(self._held)
        if self._held and not may_become_one:
            self._place = _Place.IN_TEXT
            return True
        return False

    def _read_arguments(self, deltas: list[Delta]) -> bool:
        self._extent.read(self._held)
        position = self._extent.position
        text, self._held = self._held[:position], self._held[position:]
        self._extent.position = 0
        if text:
            deltas.append(CallArguments(self.num_calls, text))
        if not self._extent.is_closed:
            return False
        deltas.append(CallEnd(self.num_calls))
        self.num_calls += 1
        self._place = _Place.IN_HEAD
        return True
