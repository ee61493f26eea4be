"""Token ids to text: of one tokenizer, of several tokens together or of single ones."""

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any, Final

from transformers import PreTrainedTokenizerFast

from gatehouse.engines.base import ScoredToken

# Texts of single tokens that are kept: some megabytes.
_NUM_KEPT: Final = 2**15


class TokenDecoder:
    """What a tokenizer says of token ids, spaces left as they are.

    Called for every token of every sequence. So texts of single tokens are remembered, and what
    `transformers` only passes on is asked directly.

    Args:
        tokenizer: Of `transformers`.
        skip_special_tokens: Leave special tokens out.
    """

    def __init__(self, tokenizer: Any, *, skip_special_tokens: bool) -> None:
        self._decode = _decode_of(tokenizer, skip_special_tokens=skip_special_tokens)
        self.single: Callable[[int], str] = lru_cache(_NUM_KEPT)(self._decode_single)

    def __call__(self, ids: list[int]) -> str:
        return self.single(ids[0]) if len(ids) == 1 else self._decode(ids)

    def _decode_single(self, token_id: int) -> str:
        return self._decode([token_id])


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


def _decode_of(tokenizer: Any, *, skip_special_tokens: bool) -> Callable[[list[int]], str]:
    plain, kind = PreTrainedTokenizerFast, type(tokenizer)
    if all(getattr(kind, name, None) is getattr(plain, name) for name in ("decode", "_decode")):
        backend = tokenizer.backend_tokenizer
        return partial(backend.decode, skip_special_tokens=skip_special_tokens)
    return partial(
        tokenizer.decode,
        skip_special_tokens=skip_special_tokens,
        clean_up_tokenization_spaces=False,
    )
