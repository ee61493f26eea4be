"""Rules that raise, lower or forbid single tokens before one is chosen: penalties, biases, bans.

Each changes a row of logits in place, and only at the tokens that it is about. Together, in the
order of `sampling_rules`, they are the logits processors of `transformers.generate`.
"""

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from gatehouse.engines.base import SamplingParams
from gatehouse.engines.llm.generation_defaults import (
    HIGHEST_PENALTY,
    LOWEST_PENALTY,
    GenerationDefaults,
)

_ALWAYS: Final = 2**62


class SamplingRule(Protocol):
    """One rule for one sequence."""

    def applies(self, num_generated: int) -> bool:
        """Whether it has anything to say about the token after so many generated ones."""
        ...

    def apply(self, scores: NDArray[np.float32]) -> None:
        """Change the scores of a vocabulary, in place."""
        ...

    def learn(self, token_id: int) -> None:
        """The sequence goes on with this token."""
        ...


class Forbidden:
    """Bans tokens, always or from the first `num_tokens` generated ones."""

    def __init__(self, ids: Sequence[int], num_tokens: int = _ALWAYS) -> None:
        self._ids = np.array(ids, dtype=np.int64)
        self._num_tokens = num_tokens

    def applies(self, num_generated: int) -> bool:
        return num_generated < self._num_tokens

    def apply(self, scores: NDArray[np.float32]) -> None:
        scores[self._ids] = -np.inf

    def learn(self, token_id: int) -> None:
        pass


class ForbiddenRuns:
    """Bans the last token of a run where the sequence, prompt included, ends with the others.

    Args:
        runs: Each of two tokens or more.
    """

    def __init__(self, runs: Sequence[tuple[int, ...]], prompt_ids: Sequence[int]) -> None:
        self._by_end: dict[int, list[tuple[int, ...]]] = {}
        for run in runs:
            self._by_end.setdefault(run[-2], []).append(run)
        self._longest = max(map(len, runs)) - 1
        self._tail = tuple(prompt_ids[-self._longest :])

    def applies(self, _num_generated: int) -> bool:
        return bool(self._tail) and self._tail[-1] in self._by_end

    def apply(self, scores: NDArray[np.float32]) -> None:
        for run in self._by_end[self._tail[-1]]:
            if self._tail[-(len(run) - 1) :] == run[:-1]:
                scores[run[-1]] = -np.inf

    def learn(self, token_id: int) -> None:
        self._tail = (*self._tail, token_id)[-self._longest :]


class ForcedEnd:
    """Leaves one of some tokens as the last of a sequence that gets `num_tokens`."""

    def __init__(self, ids: Sequence[int], num_tokens: int) -> None:
        self._ids = np.array(ids, dtype=np.int64)
        self._num_tokens = num_tokens

    def applies(self, num_generated: int) -> bool:
        return num_generated == self._num_tokens - 1

    def apply(self, scores: NDArray[np.float32]) -> None:
        scores.fill(-np.inf)
        scores[self._ids] = 0.0

    def learn(self, token_id: int) -> None:
        pass


class LogitBias:
    """Adds to the logits of single tokens; a token named twice gets the sum."""

    def __init__(self, biases: Sequence[tuple[int, float]]) -> None:
        sums: dict[int, float] = {}
        for token_id, bias in biases:
            sums[token_id] = sums.get(token_id, 0.0) + bias
        self._ids = np.array(list(sums), dtype=np.int64)
        self._biases = np.array(list(sums.values()), dtype=np.float32)

    def applies(self, _num_generated: int) -> bool:
        return True

    def apply(self, scores: NDArray[np.float32]) -> None:
        scores[self._ids] += self._biases

    def learn(self, token_id: int) -> None:
        pass


class TokenCounts:
    """The different tokens of a growing sequence and how often each was learned."""

    def __init__(self, first_ids: Sequence[int], vocabulary_size: int) -> None:
        unique = np.unique(np.array(first_ids, dtype=np.int64))
        unique = unique[unique < vocabulary_size]
        self._num_ids = len(unique)
        self._ids = np.resize(unique, max(64, 2 * self._num_ids))
        self._counts = np.zeros(len(self._ids), dtype=np.float32)
        self._places = {token_id: place for place, token_id in enumerate(unique.tolist())}

    def __len__(self) -> int:
        return self._num_ids

    @property
    def ids(self) -> NDArray[np.int64]:
        return self._ids[: self._num_ids]

    @property
    def counts(self) -> NDArray[np.float32]:
        return self._counts[: self._num_ids]

    def add(self, token_id: int) -> None:
        place = self._places.setdefault(token_id, self._num_ids)
        if place == self._num_ids:
            if place == len(self._ids):
                self._ids = np.resize(self._ids, 2 * place)
                self._counts = np.concatenate((self._counts, np.zeros(place, dtype=np.float32)))
            self._ids[place] = token_id
            self._num_ids += 1
        self._counts[place] += 1


class RepetitionPenalty:
    """Divides the positive logits of tokens seen, prompt included; multiplies the negative ones.

    As in "CTRL: A Conditional Transformer Language Model" (arXiv 1909.05858), section 4.1, and
    `transformers`' care for negative logits.
    """

    def __init__(self, penalty: float, prompt_ids: Sequence[int], vocabulary_size: int) -> None:
        self._penalty = penalty
        self._seen = TokenCounts(prompt_ids, vocabulary_size)

    def applies(self, _num_generated: int) -> bool:
        return len(self._seen) > 0

    def apply(self, scores: NDArray[np.float32]) -> None:
        seen = scores[self._seen.ids]
        scores[self._seen.ids] = np.where(seen < 0, seen * self._penalty, seen / self._penalty)

    def learn(self, token_id: int) -> None:
        self._seen.add(token_id)


class CountPenalty:
    """OpenAI's penalties: by how often, and whether at all, a token was generated."""

    def __init__(self, frequency: float, presence: float, vocabulary_size: int) -> None:
        self._frequency = frequency
        self._presence = presence
        self._generated = TokenCounts((), vocabulary_size)

    def applies(self, _num_generated: int) -> bool:
        return len(self._generated) > 0

    def apply(self, scores: NDArray[np.float32]) -> None:
        penalty = self._generated.counts * self._frequency + np.float32(self._presence)
        scores[self._generated.ids] -= penalty

    def learn(self, token_id: int) -> None:
        self._generated.add(token_id)


def sampling_rules(
    params: SamplingParams,
    defaults: GenerationDefaults,
    prompt_ids: Sequence[int],
    max_new_tokens: int,
) -> list[SamplingRule]:
    """The rules for a sequence, in the order in which they apply."""
    rules: list[SamplingRule] = []
    size = defaults.vocabulary_size
    penalty = params.repetition_penalty
    penalty = defaults.repetition_penalty if penalty is None else penalty
    penalty = min(max(penalty, LOWEST_PENALTY), HIGHEST_PENALTY)
    if penalty != 1:
        rules.append(RepetitionPenalty(penalty, prompt_ids, size))
    if words := [word[0] for word in defaults.bad_words if len(word) == 1]:
        rules.append(Forbidden(words))
    if runs := [word for word in defaults.bad_words if len(word) > 1]:
        rules.append(ForbiddenRuns(runs, prompt_ids))
    num_open = _min_new_tokens(params, defaults, len(prompt_ids))
    ends = [token_id for token_id in defaults.eos_token_ids if token_id < size]
    if ends and num_open > 0:
        rules.append(Forbidden(ends, num_open))
    if defaults.forced_end_ids:
        rules.append(ForcedEnd(defaults.forced_end_ids, max_new_tokens))
    if defaults.suppressed_ids:
        rules.append(Forbidden(defaults.suppressed_ids))
    if defaults.begin_suppressed_ids:
        rules.append(Forbidden(defaults.begin_suppressed_ids, 1))
    if params.logit_bias:
        rules.append(LogitBias(params.logit_bias))
    if params.frequency_penalty or params.presence_penalty:
        rules.append(CountPenalty(params.frequency_penalty, params.presence_penalty, size))
    return rules


def _min_new_tokens(
    params: SamplingParams, defaults: GenerationDefaults, num_prompt_tokens: int
) -> int:
    if defaults.min_new_tokens is not None:
        return defaults.min_new_tokens
    length = defaults.min_length if params.min_length is None else params.min_length
    return length - num_prompt_tokens
