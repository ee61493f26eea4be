"""Penalties, biases and bans, against the logits processors that `generate` makes itself."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

from gatehouse.engines.base import SamplingParams
from gatehouse.engines.llm.generation_defaults import GenerationDefaults
from gatehouse.engines.llm.sampling_rules import (
    CountPenalty,
    ForbiddenRuns,
    LogitBias,
    RepetitionPenalty,
    TokenCounts,
    sampling_rules,
)
from gatehouse.engines.llm.truncation import truncation
from gatehouse.engines.pipelines.decoding import prepare

SIZE = 97
PROMPT = [5, 9, 5, 40, 41, 1]
# What the sequence is made to go on with, whatever the scores are.
GENERATED = [3, 3, 40, 41, 96, 0, 3, 5]
MAX_NEW_TOKENS = len(GENERATED)

Row = NDArray[np.float32]


@pytest.fixture(scope="module")
def model() -> Any:
    config = LlamaConfig(
        vocab_size=SIZE,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        eos_token_id=None,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)


def expected_scores(
    model: Any, own: dict[str, Any], params: SamplingParams, rows: list[Row]
) -> list[Row]:
    """What the processors make of rows as `generate` goes along."""
    defaults = model.generation_config.from_dict(own)
    before, model.generation_config = model.generation_config, defaults
    seed = 1 if params.do_sample else None
    state = prepare(model, PROMPT, params, seed, MAX_NEW_TOKENS)
    model.generation_config = before
    results = []
    for place, row in enumerate(rows):
        ids = torch.tensor([PROMPT + GENERATED[:place]])
        results.append(state.processors(ids, torch.from_numpy(row.copy())[None])[0].numpy())
    return results


def actual_scores(
    defaults: GenerationDefaults, params: SamplingParams, rows: list[Row]
) -> list[Row]:
    rules = sampling_rules(params, defaults, PROMPT, MAX_NEW_TOKENS)
    results = []
    for place, row in enumerate(rows):
        scores = row.copy()
        for rule in rules:
            if rule.applies(place):
                rule.apply(scores)
        if params.do_sample:
            ids, kept = truncation(params, defaults).apply(scores)
            scores = np.full_like(row, -np.inf)
            scores[slice(None) if ids is None else ids] = kept
        results.append(scores)
        for rule in rules:
            rule.learn(GENERATED[place])
    return results


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], SamplingParams]] = {
    "nothing": ({}, {}, SamplingParams()),
    "repetition": ({}, {}, SamplingParams(repetition_penalty=1.3)),
    "reward": ({}, {}, SamplingParams(repetition_penalty=0.7)),
    "repetition of the model": (
        {"repetition_penalty": 1.2},
        {"repetition_penalty": 1.2},
        SamplingParams(),
    ),
    "repetition switched off": (
        {"repetition_penalty": 1.2},
        {"repetition_penalty": 1.2},
        SamplingParams(repetition_penalty=1.0),
    ),
    "endless repetition": ({}, {}, SamplingParams(repetition_penalty=1e30)),
    "counts": ({}, {}, SamplingParams(frequency_penalty=0.7, presence_penalty=-0.4)),
    "presence": ({}, {}, SamplingParams(presence_penalty=1.9)),
    "bias": ({}, {}, SamplingParams(logit_bias=((3, 5.5), (96, -100.0), (3, -0.25)))),
    "minimum": (
        {"eos_token_id": [7, 8]},
        {"eos_token_ids": (7, 8)},
        SamplingParams(min_length=len(PROMPT) + 3),
    ),
    "minimum without an end": ({}, {}, SamplingParams(min_length=len(PROMPT) + 3)),
    "minimum of the model": (
        {"eos_token_id": 7, "min_length": len(PROMPT) + 2},
        {"eos_token_ids": (7,), "min_length": len(PROMPT) + 2},
        SamplingParams(),
    ),
    "end outside of the vocabulary": (
        {"eos_token_id": [7, 500], "min_length": 12},
        {"eos_token_ids": (7, 500), "min_length": 12},
        SamplingParams(),
    ),
    "new tokens go before length": (
        {"eos_token_id": 7, "min_new_tokens": 2},
        {"eos_token_ids": (7,), "min_new_tokens": 2},
        SamplingParams(min_length=len(PROMPT) + 5),
    ),
    "bad words": (
        {"eos_token_id": 7, "bad_words_ids": [[4], [7], [40, 41], [3, 3, 3], [41, 1, 50], [0, 3]]},
        {
            "eos_token_ids": (7,),
            "bad_words": ((4,), (40, 41), (3, 3, 3), (41, 1, 50), (0, 3)),
        },
        SamplingParams(),
    ),
    "suppressed": (
        {"suppress_tokens": [1, 2, 3], "begin_suppress_tokens": [4, 5]},
        {"suppressed_ids": (1, 2, 3), "begin_suppressed_ids": (4, 5)},
        SamplingParams(),
    ),
    "forced end": (
        {"forced_eos_token_id": [11, 12], "suppress_tokens": [12]},
        {"forced_end_ids": (11, 12), "suppressed_ids": (12,)},
        SamplingParams(logit_bias=((11, -1.0),)),
    ),
    "all": (
        {
            "eos_token_id": 7,
            "temperature": 0.6,
            "top_k": 30,
            "top_p": 0.95,
            "typical_p": 0.97,
            "epsilon_cutoff": 0.001,
            "eta_cutoff": 0.002,
            "min_length": len(PROMPT) + 4,
            "suppress_tokens": [10],
            "bad_words_ids": [[20], [3, 40]],
        },
        {
            "eos_token_ids": (7,),
            "temperature": 0.6,
            "top_k": 30,
            "top_p": 0.95,
            "typical_p": 0.97,
            "epsilon_cutoff": 0.001,
            "eta_cutoff": 0.002,
            "min_length": len(PROMPT) + 4,
            "suppressed_ids": (10,),
            "bad_words": ((20,), (3, 40)),
        },
        SamplingParams(
            repetition_penalty=1.2,
            frequency_penalty=0.5,
            presence_penalty=0.5,
            logit_bias=((60, 4.0),),
            min_p=0.01,
        ),
    ),
}


@pytest.mark.parametrize("do_sample", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_scores_are_those_of_generate_while_a_sequence_grows(
    model: Any, case: str, do_sample: bool
) -> None:
    own, fields, given = CASES[case]
    params = SamplingParams(
        **{name: getattr(given, name) for name in given.__struct_fields__}
        | {"do_sample": do_sample}
    )
    generator = np.random.default_rng(len(case))
    rows = [(generator.standard_normal(SIZE) * 3).astype(np.float32) for _ in GENERATED]
    actual = actual_scores(GenerationDefaults(SIZE, **fields), params, rows)
    expected = expected_scores(model, own, params, rows)
    for mine, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-6, atol=2e-6)


def test_a_prompt_token_that_has_no_logit_is_not_penalised() -> None:
    row = np.arange(-4, 4, dtype=np.float32)
    penalised = row.copy()
    RepetitionPenalty(2.0, [0, 7, 8, 900], 8).apply(penalised)
    processor = RepetitionPenaltyLogitsProcessor(2.0)
    expected = processor(torch.tensor([[0, 7, 8, 900]]), torch.from_numpy(row)[None])
    assert penalised.tolist() == expected[0].tolist()


def test_a_rule_changes_nothing_but_its_own_tokens() -> None:
    row = np.linspace(-3, 3, SIZE, dtype=np.float32)
    scores = row.copy()
    LogitBias([(4, 1.0)]).apply(scores)
    RepetitionPenalty(1.5, [6], SIZE).apply(scores)
    assert np.flatnonzero(scores != row).tolist() == [4, 6]


def test_count_penalties_know_nothing_of_the_prompt() -> None:
    penalty = CountPenalty(1.0, 0.5, SIZE)
    assert not penalty.applies(0)
    for token_id in (3, 3, 8):
        penalty.learn(token_id)
    scores = np.zeros(SIZE, dtype=np.float32)
    penalty.apply(scores)
    assert (scores[3], scores[8], scores.sum()) == (-2.5, -1.5, -4.0)


@given(st.lists(st.integers(0, 3), max_size=12), st.lists(st.integers(0, 3), max_size=12))
def test_a_forbidden_run_is_found_wherever_the_prompt_ends(
    prompt: list[int], generated: list[int]
) -> None:
    runs = [(0, 1), (1, 2, 3), (3, 3, 3, 0), (2, 1)]
    rule = ForbiddenRuns(runs, prompt)
    for token_id in generated:
        rule.learn(token_id)
    scores = np.zeros(4, dtype=np.float32)
    if rule.applies(len(generated)):
        rule.apply(scores)
    text = (*prompt, *generated)
    expected = {run[-1] for run in runs if text[-len(run) + 1 :] == run[:-1]}
    assert set(np.flatnonzero(scores == -np.inf).tolist()) == expected


@given(st.lists(st.integers(0, 400), max_size=40), st.lists(st.integers(0, 400), max_size=300))
def test_counts_are_those_of_a_dictionary(first: list[int], more: list[int]) -> None:
    counts = TokenCounts(first, 300)
    for token_id in more:
        counts.add(token_id)
    expected = {token_id: 0 for token_id in first if token_id < 300}
    for token_id in more:
        expected[token_id] = expected.get(token_id, 0) + 1
    assert dict(zip(counts.ids.tolist(), counts.counts.tolist(), strict=True)) == expected
