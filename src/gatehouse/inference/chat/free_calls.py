"""Finds calls of tools in a text that may as well be anything else. Pure text.

A call is passed on when it is complete and known to be one; until then its text is held, so that
it can be given back as what it is. However the text is cut into pieces, the result is the same.
"""

from collections.abc import Collection
from enum import Enum, auto

from gatehouse.inference.chat.calls import Call, read_calls
from gatehouse.inference.chat.deltas import CallArguments, CallEnd, CallStart, Delta, Text
from gatehouse.inference.chat.dialects import Dialect
from gatehouse.inference.chat.json_extent import JsonExtent
from gatehouse.inference.chat.markers import split_settled

MAX_CALLS = 64
# Text with more that looks like calls is left alone: each costs another look at the rest.
_MAX_MISTAKES = 32
# Llama may write it before a call.
_IGNORED_HEAD = "<|python_tag|>"
_SEPARATORS = " \t\r\n;,"


class _Place(Enum):
    SEEKING = auto()
    IN_BODY = auto()
    AFTER_BODY = auto()
    IN_TEXT = auto()


class FreeCalls:
    """Passes a text on, its calls as calls.

    Args:
        dialect: How calls are written.
        names: Of the tools there are; a call of another is text.
        max_calls: Later ones are left out.
    """

    def __init__(
        self, dialect: Dialect, names: Collection[str], max_calls: int = MAX_CALLS
    ) -> None:
        self._dialect = dialect
        self._names = names
        self._max_calls = max_calls
        self._place = _Place.SEEKING
        self._held = ""
        self._body = 0
        self._extent: JsonExtent | None = None
        self._num_mistakes = 0
        self.num_calls = 0

    @property
    def is_mid_call(self) -> bool:
        """Never: a call that has begun is not passed on before its end."""
        return False

    def feed(self, piece: str) -> list[Delta]:
        """Add text and return what is certain now."""
        self._held += piece
        return self._advance(is_over=False)

    def flush(self) -> list[Delta]:
        """What was held back, when no more will come."""
        deltas = self._advance(is_over=True)
        rest = self._held
        is_layout = self.num_calls and not rest.strip()
        if self._place is _Place.AFTER_BODY:
            is_layout = self._dialect.closing.startswith(rest.strip())
        return deltas if is_layout else deltas + _text(rest)

    def _advance(self, *, is_over: bool) -> list[Delta]:
        deltas: list[Delta] = []
        while (place := self._place) is not _Place.IN_TEXT:
            if place is _Place.SEEKING:
                is_decided = self._seek(deltas) if self._dialect.opening else self._begin()
            elif place is _Place.IN_BODY:
                is_decided = self._read_body(deltas, is_over=is_over)
            else:
                is_decided = self._close()
            if not is_decided:
                return deltas
        deltas += _text(self._held)
        self._held = ""
        return deltas

    def _seek(self, deltas: list[Delta]) -> bool:
        """Pass on the text before the next opening."""
        opening = self._dialect.opening
        settled, self._held = split_settled(self._held, opening)
        deltas += _text(settled)
        candidate = self._held.lstrip()
        if not candidate.startswith(opening):
            return False
        self._enter_body(len(self._held) - len(candidate) + len(opening))
        return True

    def _begin(self) -> bool:
        """Decide whether the whole text, or all of it after a call, is a call."""
        text = self._held.lstrip(_SEPARATORS if self.num_calls else None)
        if text.startswith(_IGNORED_HEAD):
            text = text[len(_IGNORED_HEAD) :].lstrip()
        elif text and _IGNORED_HEAD.startswith(text):
            return False
        if not text:
            return False
        if text[0] in "{[":
            self._enter_body(len(self._held) - len(text))
        else:
            self._place = _Place.IN_TEXT
        return True

    def _enter_body(self, body: int) -> None:
        self._body = body
        self._extent = None
        self._place = _Place.IN_BODY

    def _read_body(self, deltas: list[Delta], *, is_over: bool) -> bool:
        text = self._held
        start = len(text) - len(text[self._body :].lstrip())
        is_value = text[start : start + 1] in ("{", "[")
        if is_value:
            self._extent = self._extent or JsonExtent(start)
            self._extent.read(text)
            if self._extent.is_closed:
                self._take(text[start : self._extent.position], deltas)
                return True
        if is_over or (start < len(text) and not is_value):
            self._give_back(deltas)
            return True
        return False

    def _take(self, body: str, deltas: list[Delta]) -> None:
        calls = read_calls(body, self._names)
        if not calls:
            self._give_back(deltas)
            return
        for call in calls:
            if self.num_calls < self._max_calls:
                deltas += _whole(self.num_calls, call)
                self.num_calls += 1
        assert self._extent is not None
        self._held = self._held[self._extent.position :]
        self._place = _Place.AFTER_BODY

    def _give_back(self, deltas: list[Delta]) -> None:
        """What looked like a call was text; the rest may still have one."""
        self._num_mistakes += 1
        is_hopeless = not self._dialect.opening or self._num_mistakes > _MAX_MISTAKES
        self._place = _Place.IN_TEXT if is_hopeless else _Place.SEEKING
        deltas += _text(self._held[: self._body])
        self._held = self._held[self._body :]

    def _close(self) -> bool:
        closing = self._dialect.closing
        text = self._held.lstrip()
        if closing and text.startswith(closing):
            self._held = text[len(closing) :]
        elif closing and closing.startswith(text):
            return False
        self._place = _Place.SEEKING
        return True


def _text(text: str) -> list[Delta]:
    return [Text(text)] if text else []


def _whole(index: int, call: Call) -> list[Delta]:
    return [CallStart(index, call.name), CallArguments(index, call.arguments), CallEnd(index)]
