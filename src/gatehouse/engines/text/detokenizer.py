"""Token ids to text while they arrive. Knows nothing of models or stop texts."""

from collections.abc import Callable, Sequence

_CONTEXT_TOKENS = 6
_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class Detokenizer:
    """Gives the text that each new token adds, holding back incomplete characters.

    A token's text depends on those before it (leading spaces, bytes of one character), so a short
    tail of the prompt is decoded too and cut off again.

    Args:
        decode: Text of a list of token ids, special tokens left out.
        prompt_ids: The prompt, or its end.
    """

    def __init__(self, decode: Callable[[list[int]], str], prompt_ids: Sequence[int]) -> None:
        self._decode = decode
        self._ids = list(prompt_ids[-_CONTEXT_TOKENS:])
        self._prefix = self._decode(self._ids)
        self._num_released = len(self._ids)

    def push(self, token_id: int) -> str:
        self._ids.append(token_id)
        text = self._decode(self._ids)
        if text.endswith(_INCOMPLETE) or len(text) <= len(self._prefix):
            return ""
        return self._release(text)

    def flush(self) -> str:
        """What is still held back; bytes that never became a character come as U+FFFD."""
        text = self._decode(self._ids)
        return text[len(self._prefix) :]

    def _release(self, text: str) -> str:
        piece = text[len(self._prefix) :]
        # The tokens of this piece are the context of the next one; older ones have no say any more.
        self._ids = self._ids[self._num_released :]
        self._prefix = self._decode(self._ids)
        self._num_released = len(self._ids)
        return piece
