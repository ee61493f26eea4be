"""Splits a text into the reasoning at its beginning and the answer. Pure text."""

from enum import Enum, auto

from gatehouse.inference.chat.deltas import Delta, Reasoning, Text
from gatehouse.inference.chat.markers import split_settled


class _Place(Enum):
    BEFORE = auto()
    INSIDE = auto()
    AFTER = auto()
    ANSWER = auto()


class ReasoningSplitter:
    """Passes a text on piece by piece, as reasoning or as answer.

    White space around both markers is layout, and left out.

    Args:
        start: The text before the reasoning. Without it there is no reasoning.
        end: The text after it.
        is_open: The reasoning has begun in the prompt; a model may repeat `start` nevertheless.
    """

    def __init__(self, start: str, end: str, *, is_open: bool) -> None:
        self._start = start
        self._end = end
        self._is_open = is_open
        self._place = _Place.BEFORE
        self._held = ""
        self._has_begun = False

    @property
    def is_inside(self) -> bool:
        return self._place is _Place.INSIDE

    def feed(self, piece: str) -> list[Delta]:
        """Add text and return what is certain now."""
        self._held += piece
        deltas: list[Delta] = []
        if self._place is _Place.BEFORE:
            self._enter()
        if self._place is _Place.INSIDE:
            deltas += self._reason()
        if self._place is _Place.AFTER:
            self._held = self._held.lstrip()
            if self._held:
                self._place = _Place.ANSWER
        if self._place is _Place.ANSWER and self._held:
            deltas.append(Text(self._take()))
        return deltas

    def flush(self) -> list[Delta]:
        """What was held back, when no more will come."""
        text = self._take()
        if self._place is _Place.INSIDE or (self._place is _Place.BEFORE and self._is_open):
            text = text.strip()
            return [Reasoning(text)] if text else []
        return [Text(text)] if text else []

    def _enter(self) -> None:
        text = self._held.lstrip()
        if text.startswith(self._start):
            self._held = text[len(self._start) :].lstrip()
            self._place = _Place.INSIDE
        elif not self._start.startswith(text):
            self._place = _Place.INSIDE if self._is_open else _Place.ANSWER

    def _reason(self) -> list[Delta]:
        if not self._has_begun:
            self._held = self._held.lstrip()
        settled, self._held = split_settled(self._held, self._end)
        self._has_begun = self._has_begun or bool(settled)
        rest = self._held.lstrip()
        if rest.startswith(self._end):
            self._held = rest[len(self._end) :]
            self._place = _Place.AFTER
        return [Reasoning(settled)] if settled else []

    def _take(self) -> str:
        text, self._held = self._held, ""
        return text
