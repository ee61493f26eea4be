"""Tokens of a prompt as other servers name them, put at their places in the text."""

from collections.abc import Sequence
from typing import Any

from gatehouse.engines.base import PromptToken, TokenizedPrompt
from gatehouse.engines.remote.base import UpstreamMalformed
from gatehouse.engines.remote.json_values import count_or_none

# How byte-level and SentencePiece vocabularies write a space and a line end.
_WRITTEN = str.maketrans({"\u0120": " ", "\u2581": " ", "\u010a": "\n", "\u0109": "\t"})


def read_token_ids(value: Any) -> list[int]:
    """A list of token ids.

    Raises:
        UpstreamMalformed: It is something else.
    """
    if not isinstance(value, list) or any(count_or_none(item) is None for item in value):
        raise UpstreamMalformed("a list of tokens that is none")
    return value


def align_tokens(ids: Sequence[int], written: Sequence[str], text: str | None) -> TokenizedPrompt:
    """Find each token in the text, as far as its written form stands there.

    A token that does not, such as one that marks the beginning or holds half a character, has an
    empty place. `text` is None if nobody knows it: then it is what the tokens say.
    """
    shown = [piece.translate(_WRITTEN) for piece in written]
    shown += [""] * (len(ids) - len(shown))
    text = "".join(shown[: len(ids)]) if text is None else text
    tokens = []
    place = 0
    for token_id, piece in zip(ids, shown, strict=False):
        found = piece if text.startswith(piece, place) else piece.removeprefix(" ")
        if not found or not text.startswith(found, place):
            tokens.append(PromptToken(token_id, piece, place, place))
            continue
        tokens.append(PromptToken(token_id, found, place, place + len(found)))
        place += len(found)
    return TokenizedPrompt(tuple(tokens), text)
