"""Single tokens as they are shown: by their own text, whatever stands before them."""

from collections.abc import Iterable
from typing import Any

from gatehouse.engines.base import ScoredToken


class TokenTexts:
    """Texts of one tokenizer's tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._special_ids = frozenset(tokenizer.all_special_ids)

    def scored(self, token_id: int, logprob: float | None) -> ScoredToken:
        text = self._tokenizer.decode(
            [token_id], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return ScoredToken(token_id, text, logprob, token_id in self._special_ids)

    def top(self, likeliest: Iterable[tuple[int, float]]) -> tuple[ScoredToken, ...]:
        """Tokens with their log-probabilities, in the order given."""
        return tuple(self.scored(token_id, logprob) for token_id, logprob in likeliest)
