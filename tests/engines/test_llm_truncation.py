"""Which tokens may be sampled, against the warpers of `transformers`."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from transformers.generation.logits_process import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from gatehouse.engines.base import SamplingParams
from gatehouse.engines.llm.generation_defaults import GenerationDefaults
from gatehouse.engines.llm.likeliest import draw, indices_of_largest, largest_first
from gatehouse.engines.llm.truncation import (
    Truncation,
    keep_epsilon,
    keep_eta,
    keep_min_p,
    keep_top_p,
    keep_typical,
    softmax,
    truncation,
)

Row = NDArray[np.float32]


def random_row(seed: int, size: int = 1000, spread: float = 3.0) -> Row:
    generator = np.random.default_rng(seed)
    return (generator.standard_normal(size) * spread).astype(np.float32)


def tied_row(seed: int, size: int = 1000) -> Row:
    """Few different values, as of a model in a low precision."""
    return np.round(random_row(seed, size))


def masked_row(seed: int, size: int = 1000) -> Row:
    row = random_row(seed, size)
    row[np.random.default_rng(seed).random(size) < 0.7] = -np.inf
    return row


ROWS = {
    **{f"random {seed}": random_row(seed) for seed in range(3)},
    "peaked": random_row(3, spread=12),
    "flat": random_row(4, spread=0.01),
    **{f"tied {seed}": tied_row(seed) for seed in range(3)},
    "masked": masked_row(5),
    "large": random_row(9, 20_011),
    "large and tied": tied_row(9, 20_011),
    "all equal": np.zeros(700, dtype=np.float32),
    "one": np.array([3.0], dtype=np.float32),
    "two": np.array([1.0, 1.0], dtype=np.float32),
    "extreme": np.array([1e30, -1e30, 1e30, 0, -np.inf, 1e29], dtype=np.float32),
    "only one possible": np.array([-np.inf] * 600 + [2.0] + [-np.inf] * 7, dtype=np.float32),
    "denormal": np.array([1e-40, 2e-40, 0, -1e-40] * 200, dtype=np.float32),
}


@pytest.fixture(params=list(ROWS))
def row(request: pytest.FixtureRequest) -> Row:
    return ROWS[request.param]


def warped(row: Row, *warpers: Any) -> Row:
    scores = torch.from_numpy(row.copy())[None]
    for warper in warpers:
        scores = warper(None, scores)
    result: Row = scores[0].numpy()
    return result


def positive(probabilities: Row) -> list[float]:
    """In order, whichever tokens they belong to."""
    kept: list[float] = np.sort(probabilities[probabilities > 0]).tolist()
    return kept


def truncated(row: Row, cut: Truncation) -> Row:
    ids, scores = cut.apply(row)
    if ids is None:
        return scores
    assert (np.diff(ids) > 0).all()
    result = np.full_like(row, -np.inf)
    result[ids] = scores
    return result


def test_top_k_after_temperature_keeps_what_transformers_keeps(row: Row) -> None:
    for top_k in (1, 2, 50, 300, 999, 5000):
        for temperature in (1.0, 0.7, 1e-5, 1e9):
            expected = warped(row, TemperatureLogitsWarper(temperature), TopKLogitsWarper(top_k))
            assert np.array_equal(truncated(row, Truncation(temperature, top_k)), expected)


def test_scores_that_become_equal_by_the_temperature_are_kept_together() -> None:
    base = np.float32(1.9)
    row = np.full(2000, -5, dtype=np.float32)
    # Neighbours in float32: divided, some of them fall on the same number.
    row[1000:1010] = base + np.arange(10, dtype=np.float32) * np.spacing(base)
    for top_k in range(1, 10):
        expected = warped(row, TemperatureLogitsWarper(1.8), TopKLogitsWarper(top_k))
        assert np.array_equal(truncated(row, Truncation(1.8, top_k)), expected)
    assert len(np.unique(row[1000:1010] / np.float32(1.8))) < 10


def test_top_p_keeps_what_transformers_keeps(row: Row) -> None:
    for top_p in (0.0, 1e-6, 0.1, 0.5, 0.9, 0.95, 0.999, 1.0):
        kept = keep_top_p(row, top_p)
        # Which of equals are kept depends on how torch sorts.
        expected = warped(row, TopPLogitsWarper(top_p)) > -np.inf
        probabilities = softmax(row)
        assert positive(probabilities[kept]) == positive(probabilities[expected])


def test_of_equals_at_the_border_of_the_nucleus_the_first_are_kept() -> None:
    row = np.array([0, 1, 0, 1, 1, 0], dtype=np.float32)
    assert np.flatnonzero(keep_top_p(row, 0.4)).tolist() == [1, 3]
    assert np.flatnonzero(keep_top_p(row, 0.0)).tolist() == [1]
    zeros = np.zeros(4000, dtype=np.float32)
    assert np.flatnonzero(keep_top_p(zeros, 0.0011)).tolist() == [0, 1, 2, 3, 4]


def test_min_p_keeps_what_transformers_keeps(row: Row) -> None:
    for min_p in (0.0, 1e-6, 0.05, 0.5, 1.0):
        expected = warped(row, MinPLogitsWarper(min_p)) > -np.inf
        assert np.array_equal(keep_min_p(row, min_p) & (row > -np.inf), expected)


def test_typical_p_keeps_what_transformers_keeps(row: Row) -> None:
    for mass in (1e-6, 0.1, 0.5, 0.9, 0.95, 0.999):
        expected = warped(row, TypicalLogitsWarper(mass)) > -np.inf
        differing = (keep_typical(row, mass) & (row > -np.inf)) != expected
        # Of 20,000 tokens in float32, some are as unlikely as sums are rounded by.
        assert softmax(row)[differing].sum() <= 1e-6


def test_epsilon_and_eta_keep_what_transformers_keeps(row: Row) -> None:
    for epsilon in (1e-6, 1e-3, 0.01, 0.5, 0.999):
        possible = row > -np.inf
        expected = warped(row, EpsilonLogitsWarper(epsilon)) > -np.inf
        assert np.array_equal(keep_epsilon(row, epsilon) & possible, expected)
        expected = warped(row, EtaLogitsWarper(epsilon)) > -np.inf
        assert np.array_equal(keep_eta(row, epsilon) & possible, expected)


def test_all_together_are_what_transformers_does_in_its_order(row: Row) -> None:
    params = SamplingParams(temperature=1.3, top_k=120, top_p=0.97, min_p=0.001, typical_p=0.9)
    defaults = GenerationDefaults(len(row), epsilon_cutoff=0.002, eta_cutoff=0.003)
    expected = warped(
        row,
        TemperatureLogitsWarper(1.3),
        TopKLogitsWarper(120),
        TopPLogitsWarper(0.97),
        MinPLogitsWarper(0.001),
        TypicalLogitsWarper(0.9),
        EpsilonLogitsWarper(0.002),
        EtaLogitsWarper(0.003),
    )
    actual = truncated(row, truncation(params, defaults))
    assert positive(softmax(actual)) == pytest.approx(positive(softmax(expected)), rel=1e-5)


def test_without_a_request_the_models_own_values_hold() -> None:
    defaults = GenerationDefaults(1000, temperature=0.5, top_k=9, top_p=0.8)
    cut = truncation(SamplingParams(), defaults)
    assert (cut.temperature, cut.top_k, len(cut.filters)) == (0.5, 9, 1)
    cut = truncation(SamplingParams(temperature=2.0, top_k=0, top_p=1.0), defaults)
    assert (cut.temperature, cut.top_k, cut.filters) == (2.0, 0, ())


def test_a_temperature_beyond_all_effect_is_bounded() -> None:
    for asked, bounded in ((1e-30, 1e-5), (0.0, 1e-5), (1e300, 1e9)):
        cut = truncation(SamplingParams(temperature=asked), GenerationDefaults(1000))
        assert cut.temperature == bounded


def test_the_largest_are_those_of_a_full_sort(row: Row) -> None:
    for num_wanted in (1, 3, 50, 400, 1000):
        order = np.lexsort((np.arange(len(row)), -row))
        order = order[row[order] > -np.inf][:num_wanted]
        assert largest_first(row, num_wanted).tolist() == order.tolist()
        last = row[order[-1]]
        expected = np.flatnonzero((row >= last) & (row > -np.inf))
        assert indices_of_largest(row, num_wanted).tolist() == expected.tolist()


finite_rows = arrays(
    np.float32,
    st.integers(1, 1500),
    elements=st.floats(-60, 60, width=32) | st.sampled_from([0.0, 1.0, -7.5]),
)


@given(finite_rows, st.floats(0, 1), st.floats(0, 1), st.floats(0.001, 10), st.integers(0, 1600))
def test_some_token_is_always_left(
    row: Row, first: float, second: float, temperature: float, top_k: int
) -> None:
    params = SamplingParams(
        temperature=temperature, top_k=top_k, top_p=first, min_p=second, typical_p=second
    )
    defaults = GenerationDefaults(len(row), epsilon_cutoff=first, eta_cutoff=second)
    ids, scores = truncation(params, defaults).apply(row)
    assert len(scores) >= 1
    assert ids is None or len(ids) == len(scores)
    assert np.isclose(softmax(scores).sum(dtype=np.float64), 1, atol=1e-5)


@given(finite_rows, st.floats(0.01, 0.999))
def test_a_nucleus_is_enough_and_would_not_be_without_its_least_token(
    row: Row, top_p: float
) -> None:
    probabilities = np.exp(row.astype(np.float64) - row.max())
    probabilities /= probabilities.sum()
    kept = keep_top_p(row, top_p)
    mass = probabilities[kept].sum()
    assert mass >= top_p - 1e-5
    assert mass - probabilities[kept].min() <= top_p + 1e-5
    if not kept.all():
        assert probabilities[~kept].max() <= probabilities[kept].min() * (1 + 1e-5)


@given(
    arrays(np.float32, st.integers(1, 5000), elements=st.sampled_from([0.0, 1e-30, 0.25, 1.0])),
    st.floats(2.0**-53, 1),
)
def test_what_has_no_weight_is_never_drawn(weights: Row, uniform: float) -> None:
    if weights.sum() > 0:
        assert weights[draw(weights, uniform)] > 0


@pytest.mark.parametrize("size", [5, 2048, 2049, 5003])
def test_draws_at_even_distances_hit_each_index_by_its_weight(size: int) -> None:
    weights = np.random.default_rng(size).random(size).astype(np.float32) ** 4
    num_draws = 20_000
    hits = np.zeros(size)
    for place in range(num_draws):
        hits[draw(weights, (place + 0.5) / num_draws)] += 1
    expected = weights.astype(np.float64) / weights.sum(dtype=np.float64) * num_draws
    # Inversion at even distances is off by less than one at either border of an index.
    tolerance = 2.1 if size <= 2048 else 3.1
    assert np.abs(hits - expected).max() < tolerance
