"""Choosing a token: greedy, drawn, under a grammar, and what is told of it."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gatehouse.engines.base import SamplingParams
from gatehouse.engines.grammars.constraint import Constraint
from gatehouse.engines.llm.generation_defaults import GenerationDefaults
from gatehouse.engines.llm.likeliest import largest_first
from gatehouse.engines.llm.runner import Logits
from gatehouse.engines.llm.sampler import (
    Choice,
    NumbersNotFinite,
    SamplingState,
    choose,
    score_prompt,
)
from gatehouse.engines.llm.truncation import keep_top_p, keep_typical, softmax

Row = NDArray[np.float32]
SIZE = 500
EOS = 2


def logits_of(values: NDArray[Any]) -> Logits:
    """As a runner gives them."""
    return Logits.of(values.astype(np.float32))


def random_logits(seed: int, num_rows: int = 1, size: int = SIZE) -> Logits:
    return logits_of(np.random.default_rng(seed).standard_normal((num_rows, size)) * 3)


def state_of(
    seed: int | None = None, defaults: GenerationDefaults | None = None, **params: Any
) -> SamplingState:
    defaults = defaults or GenerationDefaults(SIZE, eos_token_ids=(EOS,))
    return SamplingState(SamplingParams(**params), defaults, [7, 8], seed, max_new_tokens=1000)


class Allowing(Constraint):
    """Allows the same tokens all the time, as far as it knows any."""

    def __init__(self, ids: list[int], num_known: int = SIZE) -> None:
        self._allowed = bytearray(num_known)
        for token_id in ids:
            self._allowed[token_id] = 200  # what llguidance says of an allowed token
        self.accepted: list[int] = []

    def allowed(self) -> bytearray:
        return self._allowed

    def accept(self, token_id: int) -> None:
        self.accepted.append(token_id)


class Untouchable:
    """The logits of a batch of which nothing may be read."""

    def __getitem__(self, row: int) -> None:
        return None


def test_greedy_without_rules_reads_no_logits() -> None:
    logits = random_logits(0, 3)
    untouchable: Any = Untouchable()
    once = Logits(untouchable, logits.best, logits.highest)
    choice = choose(once, 1, state_of(), with_logprob=False)
    assert choice == Choice(int(logits.values[1].argmax()), None)


def test_greedy_takes_the_first_of_equals_with_rules_too() -> None:
    values = np.zeros((1, SIZE))
    values[0, [40, 90, 91]] = 5.0
    assert choose(logits_of(values), 0, state_of()).token_id == 40
    state = state_of(logit_bias=((40, -1.0),))
    assert choose(logits_of(values), 0, state).token_id == 90


def test_a_state_learns_what_was_chosen_for_it() -> None:
    values = np.zeros((1, SIZE))
    values[0, [40, 90, EOS]] = [5.0, 4.5, 6.0]
    logits = logits_of(values)
    state = state_of(min_length=2 + 5, frequency_penalty=1.0)
    chosen = [choose(logits, 0, state).token_id for _ in range(6)]
    assert chosen == [40, 90, 40, 90, 40, EOS]
    assert state.num_generated == 6


def test_rows_stay_as_they_were() -> None:
    logits = random_logits(1)
    before = logits.values.copy()
    logits.values.flags.writeable = False
    params: dict[str, Any] = {
        "repetition_penalty": 1.5,
        "temperature": 0.3,
        "logit_bias": ((3, 9.0),),
    }
    for seed in (None, 4):
        state = state_of(seed, **params)
        choose(logits, 0, state, constraint=Allowing([4, 5, 6]))
        choose(logits, 0, state, 5)
    assert np.array_equal(before, logits.values)


def test_logprobs_are_those_of_the_model_before_any_rule() -> None:
    logits = random_logits(2)
    expected = torch.log_softmax(torch.from_numpy(logits.values[0]), dim=-1)
    state = state_of(5, temperature=9.0, logit_bias=((11, 100.0),))
    choice = choose(logits, 0, state, 4)
    assert choice.token_id == 11
    assert choice.logprob == pytest.approx(expected[11].item(), abs=1e-5)
    best = torch.topk(expected, 4)
    assert [token_id for token_id, _ in choice.top] == best.indices.tolist()
    assert [logprob for _, logprob in choice.top] == pytest.approx(best.values.tolist(), abs=1e-5)


def test_logprobs_are_never_infinite_nor_above_zero() -> None:
    values = np.full((1, SIZE), -np.inf)
    values[0, 3] = 123.456
    choice = choose(logits_of(values), 0, state_of(), 2)
    assert choice == Choice(3, 0.0, ((3, 0.0),))
    values[0, 4] = -1e30
    choice = choose(logits_of(values), 0, state_of(), 10)
    assert choice.top == ((3, 0.0), (4, -9999.0))
    assert score_prompt(logits_of(values), [0], [9]) == [Choice(9, -9999.0)]


def test_equal_tokens_are_told_by_their_ids() -> None:
    values = np.zeros((1, 5000))
    values[0, [4000, 17, 300]] = 1.0
    choice = choose(logits_of(values), 0, state_of(), 5)
    assert [token_id for token_id, _ in choice.top] == [17, 300, 4000, 0, 1]
    assert len(choose(random_logits(0, size=7), 0, state_of(), 50).top) == 7


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_numbers_that_are_not_finite_break_their_own_sequence_only(
    seed: int | None, poison: float
) -> None:
    logits = random_logits(3, 2)
    logits.values[0, 77] = poison
    broken = logits_of(logits.values)
    with pytest.raises(NumbersNotFinite):
        choose(broken, 0, state_of(seed))
    with pytest.raises(NumbersNotFinite):
        score_prompt(broken, [0], [4])
    assert choose(broken, 1, state_of(seed)) == choose(random_logits(3, 2), 1, state_of(seed))


@pytest.mark.parametrize("seed", [None, 1])
def test_a_row_of_minus_infinity_leaves_nothing_to_choose(seed: int | None) -> None:
    with pytest.raises(NumbersNotFinite):
        choose(logits_of(np.full((1, SIZE), -np.inf)), 0, state_of(seed))
    defaults = GenerationDefaults(SIZE, suppressed_ids=tuple(range(SIZE)))
    with pytest.raises(NumbersNotFinite):
        choose(random_logits(0), 0, state_of(seed, defaults))
    with pytest.raises(NumbersNotFinite):
        choose(random_logits(0), 0, state_of(seed), constraint=Allowing([]))


def test_logits_that_overflow_at_the_temperature_are_told() -> None:
    values = np.zeros((1, SIZE))
    values[0, 3] = 3e38
    with pytest.raises(NumbersNotFinite):
        choose(logits_of(values), 0, state_of(1, temperature=1e-3))
    assert choose(logits_of(values), 0, state_of(1)).token_id == 3


@pytest.mark.parametrize("seed", [None, 1])
def test_a_grammar_leaves_what_it_allows_and_learns_what_was_chosen(seed: int | None) -> None:
    logits = random_logits(4, 20)
    state = state_of(seed, temperature=5.0, top_p=0.99)
    constraint = Allowing([5, 6, EOS])
    chosen = [choose(logits, row, state, constraint=constraint).token_id for row in range(20)]
    assert set(chosen) == {5, 6, EOS}
    assert constraint.accepted == [token_id for token_id in chosen if token_id != EOS]
    if seed is None:
        best = logits.values[:, [5, 6, EOS]].argmax(axis=1)
        assert chosen == np.array([5, 6, EOS])[best].tolist()


def test_a_token_that_ends_only_this_sequence_is_not_told_to_the_grammar() -> None:
    defaults = GenerationDefaults(SIZE)
    state = SamplingState(SamplingParams(), defaults, [1], None, 5, end_ids={6})
    constraint = Allowing([6])
    assert choose(random_logits(0), 0, state, constraint=constraint).token_id == 6
    assert constraint.accepted == []
    assert state.is_end(6)
    assert not state.is_end(7)


@pytest.mark.parametrize("seed", [None, 1])
def test_a_grammar_goes_before_a_rule_that_leaves_none_of_its_tokens(seed: int | None) -> None:
    state = state_of(seed, min_length=100, temperature=0.1)
    assert choose(random_logits(5), 0, state, constraint=Allowing([EOS])).token_id == EOS


def test_what_goes_before_rules_is_drawn_from_the_models_own_probabilities() -> None:
    values = np.zeros((1, SIZE))
    values[0, 2] = math.log(3)
    defaults = GenerationDefaults(SIZE, suppressed_ids=(2, 3))
    state = state_of(9, defaults, temperature=1e-5, top_k=1)
    logits = logits_of(values)
    drawn = [choose(logits, 0, state, constraint=Allowing([2, 3])).token_id for _ in range(2000)]
    assert 1400 < drawn.count(2) < 1600


def test_a_vocabulary_larger_or_smaller_than_the_grammars_is_cut() -> None:
    logits = random_logits(6)
    assert choose(logits, 0, state_of(), constraint=Allowing([9], 10)).token_id == 9
    assert choose(logits, 0, state_of(), constraint=Allowing([9, 700], 900)).token_id == 9


def run(state: SamplingState, num_tokens: int = 60, size: int = SIZE) -> list[int]:
    """A sequence whose logits depend on its length."""
    return [
        choose(random_logits(place, size=size), 0, state).token_id for place in range(num_tokens)
    ]


def test_the_same_seed_gives_the_same_tokens_and_others_do_not() -> None:
    for size in (SIZE, 5000):
        defaults = GenerationDefaults(size, top_k=0)
        first = run(state_of(3, defaults), size=size)
        assert run(state_of(3, defaults), size=size) == first
        assert run(state_of(4, defaults), size=size) != first
    assert run(state_of(2**64 - 1)) != run(state_of(0))


def test_a_seed_gives_what_it_always_gave() -> None:
    """Answers with a seed are kept by people; a release must not change them unnoticed."""
    values = np.zeros((1, 1000))
    state = state_of(42, GenerationDefaults(1000, top_k=0))
    drawn = [choose(logits_of(values), 0, state).token_id for _ in range(6)]
    assert drawn == SEED_42


SEED_42 = [773, 438, 858, 697, 94, 975]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(0, 2**64 - 1))
def test_a_sequence_draws_the_same_whoever_else_is_in_its_batches(
    others: list[int], seed: int
) -> None:
    params: dict[str, Any] = {"temperature": 1.5, "top_p": 0.95, "repetition_penalty": 1.1}
    alone = state_of(seed, **params)
    crowded = state_of(seed, **params)
    crowd = [state_of(place, **params) for place in range(6)]
    for step, num_others in enumerate(others):
        batch = random_logits(step, num_others + 1)
        place = step % (num_others + 1)
        single = logits_of(batch.values[place : place + 1])
        expected = choose(single, 0, alone, 3)
        for row in range(num_others + 1):
            if row == place:
                actual = choose(batch, row, crowded, 3)
            else:
                choose(batch, row, crowd[row])
        assert actual == expected


def test_numbers_do_not_depend_on_where_a_row_lies_in_memory() -> None:
    """Else what a sequence draws could depend on its place in the batch."""
    for size in (SIZE, 5003):
        row = random_logits(3, size=size).values[0]
        expected = None
        for offset in range(17):
            memory = np.zeros(size + 17, dtype=np.float32)
            moved = memory[offset : offset + size]
            moved[:] = row
            kept = keep_typical(moved, 0.9) & keep_top_p(moved, 0.95)
            found = (softmax(moved).tobytes(), kept.tobytes(), largest_first(moved, 40).tobytes())
            assert found == (expected or found)
            expected = found


def distribution(
    row: NDArray[np.float64], keep: Callable[[NDArray[np.float64]], NDArray[np.bool_]]
) -> NDArray[np.float64]:
    """Softmax in double precision, of what is kept by its probability."""
    probabilities = np.exp(row - row.max())
    probabilities /= probabilities.sum()
    kept = np.where(keep(probabilities), probabilities, 0)
    result: NDArray[np.float64] = kept / kept.sum()
    return result


def nucleus(top_p: float) -> Callable[[NDArray[np.float64]], NDArray[np.bool_]]:
    def keep(probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
        kept = np.zeros(len(probabilities), dtype=bool)
        mass = 0.0
        for place in np.argsort(-probabilities):
            if mass < top_p:
                kept[place] = True
            mass += probabilities[place]
        return kept

    return keep


def typical(mass: float) -> Callable[[NDArray[np.float64]], NDArray[np.bool_]]:
    def keep(probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
        surprise = -np.log(probabilities)
        distance = np.abs(surprise - (probabilities * surprise).sum())
        kept = np.zeros(len(probabilities), dtype=bool)
        kept_mass = 0.0
        for place in np.argsort(distance):
            if kept_mass < mass:
                kept[place] = True
            kept_mass += probabilities[place]
        return kept

    return keep


def all_of(probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
    return probabilities >= 0


DISTRIBUTIONS: dict[str, tuple[dict[str, Any], float, Any]] = {
    "plain": ({}, 1.0, all_of),
    "hot": ({"temperature": 2.0}, 2.0, all_of),
    "cold": ({"temperature": 0.5}, 0.5, all_of),
    "top-k": ({"top_k": 8}, 1.0, lambda p: p >= np.sort(p)[-8]),
    "top-p": ({"top_p": 0.8}, 1.0, nucleus(0.8)),
    "cold top-p": ({"top_p": 0.7, "temperature": 0.7}, 0.7, nucleus(0.7)),
    "min-p": ({"min_p": 0.1}, 1.0, lambda p: p >= 0.1 * p.max()),
    "typical": ({"typical_p": 0.6}, 1.0, typical(0.6)),
}


@pytest.mark.parametrize("size", [60, 4000])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_tokens_are_drawn_with_their_probabilities(name: str, size: int) -> None:
    params, temperature, keep = DISTRIBUTIONS[name]
    logits = random_logits(17, size=size)
    expected = distribution(logits.values[0].astype(np.float64) / temperature, keep)
    state = state_of(2026, GenerationDefaults(size, top_k=0), **params)
    num_draws = 10_000
    drawn = [choose(logits, 0, state).token_id for _ in range(num_draws)]
    counts = np.bincount(drawn, minlength=size)
    assert counts[expected == 0].sum() == 0
    assert chi_squared_deviation(counts, expected * num_draws) < 4


def chi_squared_deviation(counts: NDArray[np.int64], expected: NDArray[np.float64]) -> float:
    """Of the statistic from its mean, in standard deviations (Wilson and Hilferty, 1931).

    Rare tokens are counted together, as the approximation wants.
    """
    order = np.argsort(expected)
    num_rare = int(np.searchsorted(np.cumsum(expected[order]), 20))
    begins = [0, *range(num_rare + 1, len(order))]
    observed = np.add.reduceat(counts[order], begins)
    wanted = np.add.reduceat(expected[order], begins)
    statistic = ((observed - wanted) ** 2 / wanted).sum()
    degrees = len(begins) - 1
    third = 2 / (9 * degrees)
    return float(((statistic / degrees) ** (1 / 3) - (1 - third)) / math.sqrt(third))


def test_the_chi_squared_test_notices_a_temperature_that_is_a_little_off() -> None:
    logits = random_logits(17, size=60)
    expected = distribution(logits.values[0].astype(np.float64) / 1.1, all_of)
    state = state_of(2026, GenerationDefaults(60, top_k=0))
    drawn = [choose(logits, 0, state).token_id for _ in range(10_000)]
    counts = np.bincount(drawn, minlength=60)
    assert chi_squared_deviation(counts, expected * 10_000) > 4


def test_a_prompt_is_scored_from_the_rows_after_its_tokens() -> None:
    logits = random_logits(8, 6)
    logprobs = torch.log_softmax(torch.from_numpy(logits.values), dim=-1)
    scores = score_prompt(logits, [2, 3, 5], [10, 20, 499], 3)
    assert [score.token_id for score in scores] == [10, 20, 499]
    for score, row in zip(scores, [2, 3, 5], strict=True):
        best = torch.topk(logprobs[row], 3)
        assert score.logprob == pytest.approx(logprobs[row, score.token_id].item(), abs=1e-5)
        assert [token_id for token_id, _ in score.top] == best.indices.tolist()
        assert [value for _, value in score.top] == pytest.approx(best.values.tolist(), abs=1e-5)
    assert score_prompt(logits, [0], [5])[0].top == ()


def test_a_prompt_token_without_a_logit_is_as_unlikely_as_can_be() -> None:
    assert score_prompt(random_logits(8), [0], [SIZE + 3])[0].logprob == -9999.0
