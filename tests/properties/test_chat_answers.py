"""Answers of models are foreign text: however they are cut into pieces, they are read the same."""

from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gatehouse.engines.base import ToolMarkup
from gatehouse.inference.chat.bound_calls import BoundCalls
from gatehouse.inference.chat.deltas import (
    CallArguments,
    CallEnd,
    CallStart,
    Delta,
    Reasoning,
    Text,
)
from gatehouse.inference.chat.dialects import dialect_of
from gatehouse.inference.chat.free_calls import FreeCalls
from gatehouse.inference.chat.reasoning import ReasoningSplitter

NAMES = {"f", "g"}
FRAGMENTS = [
    "<tool_call>",
    "</tool_call>",
    "<tool",
    "[TOOL_CALLS]",
    "<|python_tag|>",
    "<think>",
    "</think>",
    '{"name": "f", "arguments": {"a": "} \\" <tool_call>"}}',
    '{"name": "g", "arguments": {}}',
    '{"name": "g", "parameters": {"b": [1, {"c": null}]}}',
    '{"name": "other", "arguments": {}}',
    '{"name": "f", "arguments": "{}"}',
    '{"name": "f", "arguments": {"a": 1,}}',
    "Hello",
    *'{}[]",\\;: \n',
]
texts = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), max_size=8).map("".join)


class Reader(Protocol):
    def feed(self, piece: str) -> list[Delta]: ...

    def flush(self) -> list[Delta]: ...


READERS: list[Callable[[], Reader]] = [
    *(lambda markup=markup: FreeCalls(dialect_of(markup), NAMES) for markup in (None, *ToolMarkup)),
    *(lambda markup=markup: BoundCalls(dialect_of(markup)) for markup in (None, *ToolMarkup)),
    lambda: FreeCalls(dialect_of(ToolMarkup.HERMES), NAMES, max_calls=1),
    lambda: ReasoningSplitter("<think>", "</think>", is_open=False),
    lambda: ReasoningSplitter("<think>", "</think>", is_open=True),
]


def read(reader: Reader, pieces: list[str]) -> list[Delta]:
    """What comes of the pieces, with neighbours of a kind joined."""
    deltas = [delta for piece in pieces for delta in reader.feed(piece)] + reader.flush()
    joined: list[Delta] = []
    for delta in deltas:
        match delta, joined[-1] if joined else None:
            case Text(text), Text(before):
                joined[-1] = Text(before + text)
            case Reasoning(text), Reasoning(before):
                joined[-1] = Reasoning(before + text)
            case CallArguments(index, text), CallArguments(_, before):
                joined[-1] = CallArguments(index, before + text)
            case _:
                joined.append(delta)
    return joined


@given(st.sampled_from(READERS), texts, st.data())
def test_any_cut_into_pieces_gives_the_same(
    make: Callable[[], Reader], text: str, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=5)) | {0, len(text)})
    pieces = [text[start:stop] for start, stop in pairwise(cuts)]
    whole = read(make(), [text])
    assert read(make(), pieces) == whole
    assert read(make(), list(text)) == whole


@given(st.sampled_from([None, *ToolMarkup]), texts)
def test_calls_are_whole_and_everything_else_is_text(markup: ToolMarkup | None, text: str) -> None:
    deltas = read(FreeCalls(dialect_of(markup), NAMES), [text])
    calls = [delta for delta in deltas if not isinstance(delta, Text)]
    for start, arguments, end in zip(calls[::3], calls[1::3], calls[2::3], strict=True):
        assert isinstance(start, CallStart)
        assert start.name in NAMES
        assert isinstance(arguments, CallArguments)
        assert isinstance(msgspec.json.decode(arguments.text), dict)
        assert isinstance(end, CallEnd)
    if not calls:
        assert "".join(delta.text for delta in deltas if isinstance(delta, Text)) == text


@given(st.text(), st.text())
def test_reasoning_and_answer_lose_nothing_but_layout(thought: str, rest: str) -> None:
    deltas = read(ReasoningSplitter("<think>", "</think>", is_open=False), [thought, "\n", rest])
    text = "".join(delta.text for delta in deltas if isinstance(delta, Text | Reasoning))
    if "<think>" not in thought:
        assert text == f"{thought}\n{rest}"
    marked = read(
        ReasoningSplitter("<think>", "</think>", is_open=False),
        ["<think>", thought.replace("<", ""), "</think>", rest],
    )
    reasoning = "".join(delta.text for delta in marked if isinstance(delta, Reasoning))
    assert reasoning == thought.replace("<", "").strip()
    answer = "".join(delta.text for delta in marked if isinstance(delta, Text))
    assert answer == rest.lstrip()
