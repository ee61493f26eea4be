"""Pieces of text joined are the text decoded at once, whatever bytes the tokens stand for."""

from hypothesis import given
from hypothesis import strategies as st

from gatehouse.engines.text.detokenizer import Detokenizer


def decode(ids: list[int]) -> str:
    """A tokenizer with one token per byte."""
    return bytes(ids).decode("utf-8", errors="replace")


@given(st.text(max_size=12), st.text(max_size=30))
def test_characters_come_whole(prompt: str, text: str) -> None:
    detokenizer = Detokenizer(decode, list(prompt.encode()))
    pieces = [detokenizer.push(byte) for byte in text.encode()]
    assert "".join(pieces) + detokenizer.flush() == text
    if "\N{REPLACEMENT CHARACTER}" not in text:
        assert "".join(pieces) == text  # nothing of a complete text is held back


@given(st.binary(max_size=30))
def test_broken_bytes_come_as_they_decode(data: bytes) -> None:
    detokenizer = Detokenizer(decode, [])
    text = "".join(detokenizer.push(byte) for byte in data) + detokenizer.flush()
    assert text == data.decode("utf-8", errors="replace")
