"""Frames from any byte stream: whole messages in order, or a clean refusal, never more memory."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatehouse.engines.base import GenerationRequest, TextPrompt
from gatehouse.engines.framing import MAX_FRAME_BYTES, FrameInvalid, FrameReader, encode_frame
from gatehouse.engines.messages import Cancel, Generate, WorkerToHost

messages = st.one_of(
    st.builds(Cancel, st.integers(0, 2**63)),
    st.builds(
        lambda request_id, text: Generate(request_id, GenerationRequest(prompt=TextPrompt(text))),
        st.integers(0, 2**63),
        st.text(),
    ),
)


@given(st.lists(messages, max_size=5), st.data())
def test_messages_survive_any_cut_of_the_stream(
    sent: list[WorkerToHost], data: st.DataObject
) -> None:
    stream = b"".join(map(encode_frame, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader: FrameReader[WorkerToHost] = FrameReader(WorkerToHost)
    received = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += reader.feed(stream[start:end])
    assert received == sent


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused_or_wait_for_more(data: bytes) -> None:
    reader: FrameReader[WorkerToHost] = FrameReader(WorkerToHost)
    with contextlib.suppress(FrameInvalid):
        for message in reader.feed(data):
            assert isinstance(message, Cancel | Generate)


def test_length_over_the_bound_is_refused_before_the_body_comes() -> None:
    reader: FrameReader[WorkerToHost] = FrameReader(WorkerToHost)
    with pytest.raises(FrameInvalid):
        reader.feed((MAX_FRAME_BYTES + 1).to_bytes(4, "big"))
