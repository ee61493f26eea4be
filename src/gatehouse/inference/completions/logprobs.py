"""The `logprobs` object of completions: parallel lists over the tokens of a choice.

Scoring programs read the prompt's part of it: `echo`, one token or none generated, and the
log-probability of each prompt token given those before it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gatehouse.engines.base import GeneratedToken, ScoredToken, Start


@dataclass(slots=True)
class LegacyLogprobs:
    """Built in the order of the text.

    Attributes:
        num_top: How many alternatives each step reports; 0 for none.
        offset: Characters of the choice's text that earlier tokens cover.
    """

    num_top: int
    offset: int = 0
    tokens: list[str] = field(default_factory=list)
    token_logprobs: list[float | None] = field(default_factory=list)
    top_logprobs: list[dict[str, float] | None] = field(default_factory=list)
    text_offset: list[int] = field(default_factory=list)

    def add_prompt(self, start: Start) -> None:
        """The prompt's tokens. The first has no probability: nothing stands before it."""
        tops: Sequence[Sequence[ScoredToken]] = start.prompt_top or [()] * len(start.prompt_tokens)
        for token, top in zip(start.prompt_tokens, tops, strict=True):
            # Names of special tokens are no part of the text.
            num_characters = 0 if token.special else len(token.text)
            self._add(token, top, num_characters)

    def add(self, generated: GeneratedToken) -> None:
        self._add(generated.token, generated.top, len(generated.piece))

    def body(self) -> dict[str, Any]:
        return {
            "tokens": self.tokens,
            "token_logprobs": self.token_logprobs,
            "top_logprobs": self.top_logprobs if self.num_top else None,
            "text_offset": self.text_offset,
        }

    def _add(self, token: ScoredToken, top: Iterable[ScoredToken], num_characters: int) -> None:
        self.tokens.append(token.text)
        self.token_logprobs.append(token.logprob)
        self.top_logprobs.append(_alternatives(token, top))
        self.text_offset.append(self.offset)
        self.offset += num_characters


def _alternatives(token: ScoredToken, top: Iterable[ScoredToken]) -> dict[str, float] | None:
    """Texts to log-probabilities, the likeliest first, the chosen token among them."""
    if token.logprob is None:
        return None
    found: dict[str, float] = {}
    for other in (*top, token):
        # Two tokens may have the same text: the likelier one stands for both.
        if other.logprob is not None:
            found.setdefault(other.text, other.logprob)
    return found
