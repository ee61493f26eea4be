"""Guesses how a sequence goes on, for the model to check several tokens in one step.

Reading the weights costs a processor most of a step, and as much for a few tokens as for one. A
guess is kept as far as it is what would have been chosen anyway: with `sampler.choose` and the
sequence's own random numbers, so the same tokens come out for the same logits ("Fast Inference from
Transformers via Speculative Decoding", arXiv 2211.17192, for guesses that are sure of themselves).
"""

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from gatehouse.engines.llm.scheduled_sequence import ScheduledSequence

# Of the runs of tokens that are looked for, the longest first.
_RUNS: Final = (3, 2)


class Proposer(Protocol):
    """Guesses, knowing ids only."""

    def propose(self, sequence: ScheduledSequence, num_tokens: int) -> list[int]:
        """The tokens that may come next: as many, fewer or none."""
        ...


class PromptLookup:
    """A sequence goes on as it did after its last tokens the time before.

    A. Saxena, "Prompt Lookup Decoding" (2023). It finds what an answer copies: code that is edited,
    passages that are quoted, and whatever repeats.
    """

    def propose(self, sequence: ScheduledSequence, num_tokens: int) -> list[int]:
        """See `Proposer`. What repeats is taken to go on doing so."""
        ids = np.concatenate((sequence.prompt_ids, np.array(sequence.generated_ids, np.int64)))
        for size in _RUNS:
            place = _after_last(ids, size)
            if place is not None:
                guess = ids[place : place + num_tokens]
                return np.resize(guess, num_tokens).tolist()
        return []


def _after_last(ids: NDArray[np.int64], size: int) -> int | None:
    """The place after the last run of tokens that equals the run at the end, this one excepted."""
    num_runs = len(ids) - size
    if num_runs < 1:
        return None
    is_equal = np.ones(num_runs, np.bool_)
    for offset in range(size):
        is_equal &= ids[offset : offset + num_runs] == ids[num_runs + offset]
    found = np.flatnonzero(is_equal)
    return int(found[-1]) + size if len(found) else None
