"""Token ids to text: of one tokenizer, of several tokens together or of single ones."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final

from gatehouse.engines.base import ScoredToken

# Texts of single tokens that are kept: some megabytes.
_NUM_KEPT: Final = 2**15


class TokenDecoder:
    """What a tokenizer says of token ids, spaces left as they are.

    Every token of a sequence is decoded alone more than once: such texts are remembered.

    Args:
        tokenizer: Of `transformers`.
        skip_special_tokens: Leave special tokens out.
    """

    def __init__(self, tokenizer: Any, *, skip_special_tokens: bool) -> None:
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self.single: Callable[[int], str] = lru_cache(_NUM_KEPT)(self._decode_single)

    def __call__(self, ids: list[int]) -> str:
        return self.single(ids[0]) if len(ids) == 1 else self._decode(ids)

    def _decode_single(self, token_id: int) -> str:
        return self._decode([token_id])

    def _decode(self, ids: list[int]) -> str:
        return str(
            self._tokenizer.decode(
                ids,
                skip_special_tokens=self._skip_special_tokens,
                clean_up_tokenization_spaces=False,
            )
        )


class TokenTexts:
    """Single tokens as they are shown: by their own text, whatever stands before them."""

    def __init__(self, tokenizer: Any) -> None:
        self._text = TokenDecoder(tokenizer, skip_special_tokens=False).single
        self._special_ids = frozenset(tokenizer.all_special_ids)

    def scored(self, token_id: int, logprob: float | None) -> ScoredToken:
        return ScoredToken(token_id, self._text(token_id), logprob, token_id in self._special_ids)

    def top(self, likeliest: Iterable[tuple[int, float]]) -> tuple[ScoredToken, ...]:
        """Tokens with their log-probabilities, in the order given."""
        return tuple(self.scored(token_id, logprob) for token_id, logprob in likeliest)
