"""What other inference servers stream: read whole however it is cut, or refused, in bounds."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatehouse.engines.base import ChatPrompt, GenerationRequest, SequenceOutput, TextPrompt
from gatehouse.engines.remote.base import (
    Delta,
    RemoteAbilities,
    UpstreamFailed,
    UpstreamMalformed,
)
from gatehouse.engines.remote.chat_markup import ChatMarkup
from gatehouse.engines.remote.event_lines import EventLines
from gatehouse.engines.remote.openai import OpenAIDialect
from gatehouse.engines.remote.prompt_tokens import align_tokens
from gatehouse.engines.remote.sequence import RemoteSequence
from gatehouse.engines.remote.tgi import TGIDialect

NAMES = [
    *("choices", "text", "delta", "content", "tool_calls", "function", "name", "arguments"),
    *("index", "finish_reason", "usage", "logprobs", "tokens", "token_logprobs", "token", "id"),
    *("top_logprobs", "details", "generated_text", "error", "special"),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(NAMES),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
TEXT = GenerationRequest(TextPrompt("x"), max_new_tokens=5, stop=("ab",), keep_stop=False)
CHAT = GenerationRequest(ChatPrompt(()), max_new_tokens=5)


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n\x00"), max_size=20), max_size=6),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.data(),
)
def test_events_survive_any_cut(texts: list[str], end: str, data: st.DataObject) -> None:
    stream = "".join(f": note{end}data: {text}{end}id: 7{end}{end}" for text in texts).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    lines = EventLines()
    found: list[bytes] = []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += lines.feed(stream[start:stop])
    assert found == [text.encode() for text in texts]


@given(st.lists(st.binary(max_size=60), max_size=10))
def test_foreign_bytes_never_take_more_than_the_bound(chunks: list[bytes]) -> None:
    lines = EventLines(max_event_bytes=64)
    with contextlib.suppress(UpstreamMalformed):
        for chunk in chunks:
            assert all(len(event) <= 64 for event in lines.feed(chunk))
            assert len(lines._rest) <= 64


def test_an_endless_line_is_refused() -> None:
    lines = EventLines(max_event_bytes=100)
    with pytest.raises(UpstreamMalformed):
        feed_often(lines, b"data: xxxxx")


def test_endless_data_lines_are_refused() -> None:
    lines = EventLines(max_event_bytes=100)
    with pytest.raises(UpstreamMalformed):
        feed_often(lines, b"data:\n")


def feed_often(lines: EventLines, chunk: bytes) -> None:
    for _ in range(200):
        lines.feed(chunk)


@pytest.mark.parametrize("dialect", [OpenAIDialect, TGIDialect])
@pytest.mark.parametrize("request_", [TEXT, CHAT])
@given(events=st.lists(JSON | st.dictionaries(st.just("choices"), st.lists(JSON), min_size=1)))
def test_foreign_json_becomes_a_sequence_or_is_refused(
    dialect: Any, request_: GenerationRequest, events: list[Any]
) -> None:
    reader = dialect("far", RemoteAbilities()).reader(request_)
    sequence = RemoteSequence(request_, None, 0.0)
    outputs: list[SequenceOutput] = []
    with contextlib.suppress(UpstreamMalformed, UpstreamFailed):
        for event in events:
            if not sequence.is_over:
                output = sequence.take(reader.read(json.dumps(event).encode()), 0.0)
                outputs += [output] if output is not None else []
        if not sequence.is_over:
            outputs.append(sequence.end())
    check_sequence(outputs, request_.max_new_tokens)


@given(
    st.lists(st.text("ab ", max_size=4), max_size=12),
    st.integers(1, 8),
    st.sampled_from([(), ("ab",), ("b a", "aa")]),
    st.booleans(),
)
def test_pieces_are_the_text_up_to_its_stop(
    texts: list[str], max_new_tokens: int, stop: tuple[str, ...], keep_stop: bool
) -> None:
    request = GenerationRequest(
        TextPrompt("x"), max_new_tokens=max_new_tokens, stop=stop, keep_stop=keep_stop
    )
    sequence = RemoteSequence(request, 7, 0.0)
    outputs = []
    for text in texts:
        output = None if sequence.is_over else sequence.take(Delta(text), 0.0)
        outputs += [output] if output is not None else []
    if not sequence.is_over:
        with contextlib.suppress(UpstreamMalformed):
            sequence.end()
    check_sequence(outputs, max_new_tokens)
    shown = "".join(token.piece for output in outputs for token in output.tokens)
    sent = [text for text in texts if text][:max_new_tokens]
    assert "".join(sent).startswith(shown)
    if not keep_stop:
        assert not any(text in shown for text in stop)


def check_sequence(outputs: list[SequenceOutput], limit: int) -> None:
    """Never more tokens than asked for, one beginning, one end, text that can be encoded."""
    tokens = [token for output in outputs for token in output.tokens]
    assert len(tokens) <= limit
    assert all(output.tokens for output in outputs)
    assert outputs == [] or outputs[0].start is not None
    assert sum(output.finish is not None for output in outputs) <= 1
    for token in tokens:
        f"{token.piece}{token.token.text}".encode()


@given(st.lists(JSON, max_size=6))
def test_marks_are_closed_whatever_comes(deltas: list[Any]) -> None:
    markup = ChatMarkup()
    text = ""
    for delta in deltas:
        if isinstance(delta, dict):
            text += markup.read(delta)
    text += markup.end()
    assert markup.end() == ""
    text.encode()


@given(st.lists(st.text(max_size=5), max_size=6), st.text(max_size=30))
def test_places_of_tokens_lie_in_the_text(written: list[str], text: str) -> None:
    found = align_tokens(range(len(written)), written, text)
    place = 0
    for token in found.tokens:
        assert place <= token.start <= token.stop <= len(text)
        assert token.start == token.stop or text[token.start : token.stop] == token.text
        place = token.stop
