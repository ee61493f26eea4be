"""A sequence as its scheduler sees it: ids, how many of them were run, and in which blocks."""

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from gatehouse.engines.llm.blocks import PromptBlock
from gatehouse.engines.llm.runner import NO_ADAPTER, AdapterPlace


def _no_blocks() -> NDArray[np.int32]:
    return np.empty(0, np.int32)


class SequenceState(StrEnum):
    """Where a sequence is in its life. A preempted one waits too, and will run again."""

    WAITING = "waiting"
    PREFILLING = "prefilling"
    DECODING = "decoding"
    PREEMPTED = "preempted"
    FINISHED = "finished"


@dataclass(slots=True, eq=False)
class ScheduledSequence:
    """One sequence: made by the caller, from then on written by its scheduler alone.

    Attributes:
        prompt_ids: At least one token; of shape (num_prompt_tokens).
        max_new_tokens: How many tokens will be appended at most; 0 to score the prompt.
        priority: A lower number goes first.
        salt: Prompts are found again only by sequences of the same salt.
        wants_prompt_logits: Every prompt token is run for its logits, cached or not.
        adapter: Where the runner has its adapter.
        state: See `SequenceState`.
        generated_ids: What was appended so far.
        proposed_ids: Guesses of what comes next, to be run with the last token that was appended.
        num_tokens: Of the prompt and those appended.
        num_computed: How many of them were run, and have keys and values in the blocks.
        num_scored: How many prompt tokens were run at least once; their logits are not given again.
        num_cached: How many prompt tokens were not run, since it was last admitted.
        block_ids: The first `num_blocks` are the blocks it holds, in order.
        prompt_blocks: Of the prompt, once its block manager has asked for them.
        rank: Priority, then arrival: whoever has the lower one goes first.
    """

    prompt_ids: NDArray[np.int64]
    max_new_tokens: int
    priority: int = 0
    salt: bytes = b""
    wants_prompt_logits: bool = False
    adapter: AdapterPlace = NO_ADAPTER
    state: SequenceState = field(default=SequenceState.WAITING, init=False)
    generated_ids: list[int] = field(default_factory=list, init=False)
    proposed_ids: list[int] = field(default_factory=list, init=False)
    num_prompt_tokens: int = field(init=False)
    num_tokens: int = field(init=False)
    num_computed: int = field(default=0, init=False)
    num_scored: int = field(default=0, init=False)
    num_cached: int = field(default=0, init=False)
    block_ids: NDArray[np.int32] = field(default_factory=_no_blocks, init=False, repr=False)
    num_blocks: int = field(default=0, init=False)
    prompt_blocks: tuple[PromptBlock, ...] | None = field(default=None, init=False, repr=False)
    rank: tuple[int, int] = field(default=(0, 0), init=False)

    def __post_init__(self) -> None:
        self.num_prompt_tokens = self.num_tokens = len(self.prompt_ids)
        assert self.num_prompt_tokens > 0
        assert self.max_new_tokens >= 0

    @property
    def arrival(self) -> int:
        """Which one it was of all sequences that were ever added."""
        return self.rank[1]

    @property
    def is_running(self) -> bool:
        return self.state in (SequenceState.PREFILLING, SequenceState.DECODING)

    @property
    def max_tokens(self) -> int:
        """Of the prompt and all that may be appended."""
        return self.num_prompt_tokens + self.max_new_tokens
