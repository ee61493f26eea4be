"""One sequence's next token out of a row of logits, whatever else is in the batch.

Knows ids and numbers; nothing of text, of requests, or of what runs the network. A sequence keeps
its `SamplingState` as long as it lives, preempted or not: tokens that are only replayed are neither
chosen again nor told to it.
"""

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gatehouse.engines.base import SamplingParams
from gatehouse.engines.grammars.constraint import Constraint
from gatehouse.engines.llm.generation_defaults import GenerationDefaults
from gatehouse.engines.llm.likeliest import draw, largest_first
from gatehouse.engines.llm.runner import Logits
from gatehouse.engines.llm.sampling_rules import SamplingRule, sampling_rules
from gatehouse.engines.llm.truncation import Truncation, exponentials, truncation

_LOWEST_LOGPROB: Final = -9999.0


class NumbersNotFinite(ArithmeticError):
    """A row of logits holds NaN or infinity, or no token is left that could be chosen."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A token, with natural-log probabilities of the model before any rule.

    Attributes:
        logprob: None if it was not asked for.
        top: Ids and log-probabilities of the likeliest tokens, best first; equals by id.
    """

    token_id: int
    logprob: float | None
    top: tuple[tuple[int, float], ...] = ()


class SamplingState:
    """What choosing for one sequence depends on. It learns the tokens that `choose` chooses.

    Args:
        params: Of the request; `do_sample` and `seed` are not read.
        defaults: Of the model.
        prompt_ids: What the sequence begins with.
        seed: At least 0; None decodes greedily. The same seed gives the same tokens for the same
            logits, with one random number for each token.
        max_new_tokens: How many tokens the sequence may get.
        end_ids: Tokens that end this sequence besides those of `defaults`.
    """

    def __init__(
        self,
        params: SamplingParams,
        defaults: GenerationDefaults,
        prompt_ids: Sequence[int],
        seed: int | None,
        max_new_tokens: int,
        end_ids: Set[int] = frozenset(),
    ) -> None:
        self.num_generated = 0
        self._rules = sampling_rules(params, defaults, prompt_ids, max_new_tokens)
        self._end_ids = frozenset(defaults.eos_token_ids) | end_ids
        self._truncation = truncation(params, defaults)
        # Raw bits of it are the same in every release of numpy.
        self._bits = None if seed is None else np.random.PCG64(seed)

    def learn(self, token_id: int) -> None:
        """The sequence goes on with this token."""
        self.num_generated += 1
        for rule in self._rules:
            rule.learn(token_id)

    def is_end(self, token_id: int) -> bool:
        """Whether the token ends the sequence."""
        return token_id in self._end_ids

    def pick(
        self, row: NDArray[np.float32], best: int, constraint: Constraint | None = None
    ) -> int:
        """The token that comes next. Learns nothing; but a random number is used up.

        Args:
            row: Logits of a vocabulary; not changed.
            best: The likeliest token of the row.
            constraint: Ready to answer.

        Raises:
            NumbersNotFinite: Every token is forbidden, or numbers became too large.
            ConstraintBroken: The grammar gave up.
        """
        rules = [rule for rule in self._rules if rule.applies(self.num_generated)]
        if not rules and constraint is None and self._bits is None:
            return best
        with np.errstate(over="ignore", invalid="ignore"):
            if not rules and constraint is None:
                return self._draw(row, row[best], self._truncation)
            return self._pick_by(rules, row, constraint)

    def _pick_by(
        self, rules: Sequence[SamplingRule], row: NDArray[np.float32], constraint: Constraint | None
    ) -> int:
        scores, cut = row, self._truncation
        if rules:
            scores = row.copy()
            for rule in rules:
                rule.apply(scores)
        if constraint is not None:
            ceiling = _ceiling(constraint, len(row))
            scores = np.minimum(scores, ceiling)
            if not scores.max() > -np.inf:
                # Rules forbade all that the grammar allows (no end yet, but nothing else may
                # come): the grammar has it, among what the model itself said.
                scores, cut = np.minimum(row, ceiling), Truncation()
        first = int(scores.argmax())
        if not np.isfinite(scores[first]):
            raise NumbersNotFinite("no token is left to choose")
        return first if self._bits is None else self._draw(scores, scores[first], cut)

    def _draw(self, scores: NDArray[np.float32], highest: np.float32, cut: Truncation) -> int:
        assert self._bits is not None
        # 53 bits: above 0 and at most 1.
        uniform = ((int(self._bits.random_raw()) >> 11) + 1) * 2.0**-53
        if not np.isfinite(highest / np.float32(cut.temperature)):
            raise NumbersNotFinite("the probabilities are not finite")
        ids, kept = cut.apply(scores)
        place = draw(exponentials(kept), uniform)
        return place if ids is None else int(ids[place])


def choose(
    logits: Logits,
    row: int,
    state: SamplingState,
    num_top: int = 0,
    constraint: Constraint | None = None,
    *,
    with_logprob: bool = True,
) -> Choice:
    """Choose the next token of a sequence, and let the state and the grammar learn it.

    Args:
        logits: Of a batch.
        row: That after the sequence's last token.
        state: The sequence's own.
        num_top: How many of the likeliest tokens to tell.
        constraint: Ready to answer. It does not learn a token that ends the sequence.
        with_logprob: Whether to tell that of the token, if none of others are told.

    Raises:
        NumbersNotFinite: This sequence cannot go on. Others can.
        ConstraintBroken: As before; the grammar gave up.
    """
    _check_finite(logits, row)
    token_id = state.pick(logits.values[row], logits.best[row], constraint)
    state.learn(token_id)
    if constraint is not None and not state.is_end(token_id):
        constraint.accept(token_id)
    if num_top or with_logprob:
        return _scored(logits, row, token_id, num_top)
    return Choice(token_id, None)


def score_prompt(
    logits: Logits, rows: Sequence[int], next_ids: Sequence[int], num_top: int = 0
) -> list[Choice]:
    """How likely tokens of a prompt were, given those before them.

    Args:
        logits: As in `choose`.
        rows: Those after each prompt token but the last (or a part of them: a chunk).
        next_ids: The token that followed in the prompt, for each of `rows`.
        num_top: How many of the likeliest tokens to tell at each place.

    Raises:
        NumbersNotFinite: The model gave numbers that cannot be compared.
    """
    scores = []
    for row, token_id in zip(rows, next_ids, strict=True):
        _check_finite(logits, row)
        scores.append(_scored(logits, row, token_id, num_top))
    return scores


def _scored(logits: Logits, row: int, token_id: int, num_top: int) -> Choice:
    values, log_sum = logits.values[row], logits.log_sum(row)
    top = largest_first(values, min(num_top, len(values))).tolist() if num_top else []
    # The tokens that a model reads can be more than those that it gives logits for.
    value = values[token_id] if token_id < len(values) else np.float32(-np.inf)
    return Choice(
        token_id,
        _logprob(value, log_sum),
        tuple((top_id, _logprob(values[top_id], log_sum)) for top_id in top),
    )


def _logprob(value: np.float32, log_sum: float) -> float:
    """JSON has no infinity; and rounding must not make a probability larger than 1."""
    return min(max(float(value) - log_sum, _LOWEST_LOGPROB), 0.0)


def _check_finite(logits: Logits, row: int) -> None:
    if not math.isfinite(logits.highest[row]):
        raise NumbersNotFinite("the model gave numbers that are not finite")


def _ceiling(constraint: Constraint, vocabulary_size: int) -> NDArray[np.float32]:
    """Infinity for what the grammar allows, minus infinity for the rest and for unknown tokens.

    A minimum with this takes the same time whatever is allowed; a choice by mask does not, and up
    to seven times as long.
    """
    mask = np.frombuffer(constraint.allowed(), dtype=np.uint8)[:vocabulary_size]
    bits = np.full(vocabulary_size, 0xFF800000, dtype=np.uint32)
    signs = (mask == 0).astype(np.uint32)
    np.left_shift(signs, 31, out=signs)
    np.bitwise_or(signs, 0x7F800000, out=bits[: len(mask)])
    return bits.view(np.float32)
