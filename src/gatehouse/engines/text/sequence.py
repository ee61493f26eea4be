"""A request under way: its prompt, its text so far, and when it ends."""

import time
from dataclasses import dataclass, field

from gatehouse.engines.base import FinishReason, GenerationRequest
from gatehouse.engines.grammars.constraint import Constraint
from gatehouse.engines.text.detokenizer import Detokenizer
from gatehouse.engines.text.stop_strings import StopStrings


@dataclass(slots=True)
class Sequence:
    """A request with its prompt read.

    Attributes:
        seed: None for greedy decoding.
        ends: Tokens that end it besides those that always do, and what is shown of them.
        eos_token_ids: All that end it; known once it runs.
        constraint: None without a grammar.
    """

    request_id: int
    request: GenerationRequest
    prompt_ids: list[int]
    max_new_tokens: int
    seed: int | None
    text: Detokenizer
    stop: StopStrings
    queued_at: float
    ends: dict[int, str] = field(default_factory=dict)
    constraint: Constraint | None = None
    started_at: float = 0.0
    eos_token_ids: frozenset[int] = frozenset()
    num_generated: int = 0

    @property
    def num_reserved(self) -> int:
        """Tokens that this sequence may come to hold in the cache."""
        return len(self.prompt_ids) + self.max_new_tokens

    def is_ready(self, wait_seconds: float = 0.0) -> bool:
        """Whether its next token can be chosen at once."""
        return self.constraint is None or self.constraint.is_ready(wait_seconds)

    def take(self, token_id: int) -> tuple[str, FinishReason | None]:
        """Add a token: the text that may be shown now, and why the sequence ends, if it does."""
        self.num_generated += 1
        is_eos = token_id in self.eos_token_ids
        shown = self.ends.get(token_id) if is_eos else None
        if is_eos and self.request.show_special:
            shown = shown or ""  # the names of other special tokens are shown, not of this
        piece = self.stop.feed(self.text.push(token_id)) if shown is None else ""
        reason = self._finish_reason(is_eos=is_eos)
        if reason is not None and not self.stop.is_stopped:
            piece += self.stop.feed(self.text.flush()) + self.stop.flush() + (shown or "")
        return piece, reason

    def _finish_reason(self, *, is_eos: bool) -> FinishReason | None:
        if is_eos:
            return FinishReason.EOS_TOKEN
        if self.stop.is_stopped:
            return FinishReason.STOP_SEQUENCE
        limit = self.request.max_seconds
        if limit is not None and time.monotonic() - self.started_at >= limit:
            return FinishReason.LENGTH
        if self.num_generated >= self.max_new_tokens:
            return FinishReason.LENGTH
        return None
