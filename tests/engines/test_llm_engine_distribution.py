"""Tokens that are sampled through the engine fall as often as the model says."""

import math

import numpy as np
import pytest
import torch
from equality_models import EqualityModel, equality_model
from generating import run
from llm_models import Reference
from numpy.typing import NDArray
from watched_engine import WatchedRunner, make_engine, make_runner

from gatehouse.engines.base import GenerationRequest, SamplingParams, TokensPrompt
from gatehouse.engines.llm.openvino_runner import ComputeType

_NUM_DRAWS = 2500
_NUM_TOGETHER = 100  # more than run at once, fewer than may wait
_TEMPERATURE, _TOP_K, _TOP_P = 0.6, 12, 0.9


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> EqualityModel:
    return equality_model("qwen3", tmp_path_factory.mktemp("drawn"), torch.float32)


@pytest.fixture(scope="module")
def drawn(model: EqualityModel) -> NDArray[np.int64]:
    """Two tokens of each of many seeds, 32 at a time; of shape (draws, 2)."""
    runner = make_runner(model.folder, ComputeType.FLOAT32)
    engine = make_engine(WatchedRunner(runner), model.tokenizer)
    requests = [
        GenerationRequest(
            TokensPrompt(tuple(model.prompts[2])),
            SamplingParams(
                do_sample=True, seed=seed, temperature=_TEMPERATURE, top_k=_TOP_K, top_p=_TOP_P
            ),
            max_new_tokens=2,
        )
        for seed in range(_NUM_DRAWS)
    ]
    ids = [
        answer.ids
        for begin in range(0, _NUM_DRAWS, _NUM_TOGETHER)
        for answer in run(engine, requests[begin : begin + _NUM_TOGETHER])
    ]
    runner.close()
    return np.array(ids)


def expected(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """By the rules' definitions: the `_TOP_K` likeliest, of which those that make up `_TOP_P`."""
    order = np.argsort(-logits)[:_TOP_K]
    weights = np.exp((logits[order] - logits[order[0]]).astype(np.float64) / _TEMPERATURE)
    weights /= weights.sum()
    num_kept = int(np.searchsorted(np.cumsum(weights), _TOP_P)) + 1
    shares = np.zeros(len(logits))
    shares[order[:num_kept]] = weights[:num_kept] / weights[:num_kept].sum()
    return shares


def deviation(tokens: NDArray[np.int64], shares: NDArray[np.float64]) -> float:
    """Chi-squared in standard deviations from its mean; infinite if what is impossible fell."""
    counts = np.bincount(tokens, minlength=len(shares))
    kept = shares > 0
    if counts[~kept].any():
        return math.inf
    wanted = shares[kept] * len(tokens)
    assert wanted.min() > 5
    freedom = kept.sum() - 1
    assert freedom >= 4, "a choice of few says little"
    chi_squared = ((counts[kept] - wanted) ** 2 / wanted).sum()
    return float((chi_squared - freedom) / np.sqrt(2 * freedom))


def test_first_tokens_fall_as_the_prompt_says(
    model: EqualityModel, drawn: NDArray[np.int64]
) -> None:
    shares = expected(Reference(model.folder).logits(model.prompts[2])[-1])
    assert deviation(drawn[:, 0], shares) < 4


def test_second_tokens_fall_as_the_first_says(
    model: EqualityModel, drawn: NDArray[np.int64]
) -> None:
    reference = Reference(model.folder)
    first, count = np.unique(drawn[:, 0], return_counts=True)
    token = int(first[count.argmax()])
    shares = expected(reference.logits([*model.prompts[2], token])[-1])
    assert deviation(drawn[drawn[:, 0] == token, 1], shares) < 4


def test_the_measure_notices_another_temperature(
    model: EqualityModel, drawn: NDArray[np.int64]
) -> None:
    logits = Reference(model.folder).logits(model.prompts[2])[-1]
    assert deviation(drawn[:, 0], expected(logits * np.float32(1.3))) > 4
