"""Every family through the whole engine: exact as `transformers.generate`, and never by chance.

The exact setting is compared with `transformers` in float32; the default setting, which rounds
otherwise, with itself: what a request gives alone and in crowds that were drawn at random.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from equality_models import FAMILIES, PROMPT_LENGTHS, TRAINED, EqualityModel, equality_model
from generating import Answer, run
from llm_models import Reference
from random_crowd import Crowd
from watched_engine import WatchedRunner, make_engine, make_runner

from gatehouse.engines.base import GenerationRequest, SamplingParams, TokensPrompt
from gatehouse.engines.llm.openvino_runner import ComputeType, OpenVinoRunner
from gatehouse.engines.llm.scheduler import SchedulerLimits

NUM_NEW = 40
_NAMES = [*FAMILIES, TRAINED]


@dataclass(frozen=True)
class Exact:
    """A model in float32, and what `generate` makes of its prompts."""

    model: EqualityModel
    runner: OpenVinoRunner
    expected: list[list[int]]


@pytest.fixture(scope="module", params=_NAMES)
def exact(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Exact]:
    folder = tmp_path_factory.mktemp("exact")
    model = equality_model(request.param, folder, torch.float32)
    reference = Reference(model.folder)
    expected = [reference.greedy(prompt, NUM_NEW) for prompt in model.prompts]
    assert len({token for tokens in expected for token in tokens}) > 20, "the answers must vary"
    runner = make_runner(model.folder, ComputeType.FLOAT32)
    yield Exact(model, runner, expected)
    runner.close()


def ask_ids(ids: list[int], scope: str = "") -> GenerationRequest:
    return GenerationRequest(TokensPrompt(tuple(ids)), max_new_tokens=NUM_NEW, reuse_scope=scope)


def ids_of(answers: list[Answer]) -> list[list[int]]:
    return [answer.ids for answer in answers]


def test_alone_a_prompt_gives_what_generate_gives(exact: Exact) -> None:
    engine = make_engine(WatchedRunner(exact.runner), exact.model.tokenizer)
    alone = [run(engine, [ask_ids(prompt)])[0].ids for prompt in exact.model.prompts]
    assert alone == exact.expected


def test_beside_31_others_it_gives_the_same(exact: Exact) -> None:
    runner = WatchedRunner(exact.runner)
    places = [place % len(PROMPT_LENGTHS) for place in range(32)]
    requests = [
        ask_ids(exact.model.prompts[place], scope=str(number))
        for number, place in enumerate(places)
    ]
    answers = ids_of(run(make_engine(runner, exact.model.tokenizer), requests))
    assert answers == [exact.expected[place] for place in places]
    assert max(len(lengths) for lengths in runner.lengths) == 32


def test_after_preemption_it_gives_the_same(exact: Exact) -> None:
    engine = make_engine(WatchedRunner(exact.runner, num_blocks=9), exact.model.tokenizer)
    answers = ids_of(run(engine, [ask_ids(prompt) for prompt in exact.model.prompts]))
    assert answers == exact.expected
    assert engine.scheduler.num_preemptions > 0


def test_after_a_prefix_hit_it_gives_the_same(exact: Exact) -> None:
    runner = WatchedRunner(exact.runner)
    engine = make_engine(runner, exact.model.tokenizer)
    run(engine, [ask_ids(exact.model.prompts[-1])])
    assert runner.lengths[0] == [70]
    runner.lengths.clear()
    answers = ids_of(run(engine, [ask_ids(exact.model.prompts[-1])] * 2))
    assert answers == exact.expected[-1:] * 2
    assert runner.lengths[0] == [70 - 2 * runner.block_size] * 2


def test_through_chunked_prefill_it_gives_the_same(exact: Exact) -> None:
    limits = SchedulerLimits(
        max_sequences=6, max_tokens_per_step=9, max_scored_per_step=9, stream_weight=1
    )
    runner = WatchedRunner(exact.runner)
    engine = make_engine(runner, exact.model.tokenizer, limits)
    answers = ids_of(run(engine, [ask_ids(prompt) for prompt in exact.model.prompts]))
    assert answers == exact.expected
    assert runner.num_pieces >= 2 + 60 // 9 + 70 // 9


@pytest.fixture(scope="module", params=_NAMES)
def crowd(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Crowd]:
    folder = tmp_path_factory.mktemp("default")
    model = equality_model(request.param, folder, torch.bfloat16)
    runner = make_runner(model.folder, ComputeType.BFLOAT16)
    yield Crowd(model, runner)
    runner.close()


def seeded(seed: int) -> SamplingParams:
    return SamplingParams(do_sample=True, seed=seed, temperature=1.1, top_p=0.95)


def ask_in_crowd(
    ids: list[int], sampling: SamplingParams, num_new: int = NUM_NEW
) -> GenerationRequest:
    return GenerationRequest(
        TokensPrompt(tuple(ids)), sampling, max_new_tokens=num_new, num_top_tokens=1
    )


def test_an_answer_does_not_depend_on_what_else_is_scheduled(crowd: Crowd) -> None:
    """Tokens and, to the last bit, their probabilities: greedy ones and those of a seed."""
    prompts = crowd.model.prompts
    targets = [
        ask_in_crowd(prompts[2], seeded(11), num_new=24),
        ask_in_crowd(prompts[3], SamplingParams(), num_new=24),
    ]
    alone = [crowd.run_alone(target) for target in targets]
    assert all(len(tokens) == 24 for tokens in alone)
    draw = random.Random(4)
    for _ in range(20):
        assert crowd.run_at_random(targets, draw) == alone
    assert crowd.num_cancelled > 0
    assert crowd.num_reused > 0


def test_an_answer_does_not_depend_on_preemption(crowd: Crowd) -> None:
    requests = [ask_in_crowd(prompt, SamplingParams()) for prompt in crowd.model.prompts]
    alone = [crowd.run_alone(request) for request in requests]
    before = crowd.num_preemptions
    assert crowd.run_scarce(requests) == alone
    assert crowd.num_preemptions > before


def test_another_seed_gives_another_text(crowd: Crowd) -> None:
    requests = [ask_in_crowd(crowd.model.prompts[2], seeded(seed)) for seed in range(4)]
    assert len({tuple(crowd.run_alone(request)) for request in requests}) == 4
