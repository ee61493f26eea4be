"""Guessed tokens change how many steps an answer takes, and nothing of the answer."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generating import ask, run
from tiny_models import save_tiny_llama

from gatehouse.engines.base import (
    EngineOptions,
    FinishReason,
    GenerationRequest,
    Grammar,
    GrammarKind,
    SamplingParams,
    Speculation,
)
from gatehouse.engines.llm.block_manager import BlockManager
from gatehouse.engines.llm.engine import BatchedTextGeneration
from gatehouse.engines.llm.loading import load_batched_text_generation
from gatehouse.engines.llm.scheduled_sequence import ScheduledSequence
from gatehouse.engines.llm.scheduler import Scheduler, SchedulerLimits
from gatehouse.engines.llm.speculation import PromptLookup

PROMPTS = ["the cat", "hello world", "a dog ran over the hill and", "x", "日本語 text"]
RULES: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.3},
    {"frequency_penalty": 1.0, "presence_penalty": 0.5},
    {"logit_bias": ((40, 4.0), (41, -3.0))},
    {"do_sample": True, "seed": 5, "temperature": 0.9},
    {"do_sample": True, "seed": 6, "top_k": 8, "repetition_penalty": 1.2},
]


class Told:
    """Guesses from answers that are known already; every so many tokens it is wrong."""

    def __init__(self, answers: dict[bytes, list[int]], wrong_at: Callable[[int], bool]) -> None:
        self._answers = answers
        self._wrong_at = wrong_at

    def propose(self, sequence: ScheduledSequence, num_tokens: int) -> list[int]:
        known = len(sequence.generated_ids)
        answer = self._answers[sequence.prompt_ids.tobytes()]
        guess = answer[known : known + num_tokens]
        return [
            token_id + 1 if self._wrong_at(place) else token_id
            for place, token_id in enumerate(guess, start=known)
        ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("exact"), dtype=torch.float32)


@pytest.fixture
def engine(folder: Path) -> Iterator[BatchedTextGeneration]:
    engine = load_batched_text_generation(folder, EngineOptions(), 1)
    yield engine
    engine.unload()


def requests_of(params: dict[str, Any], max_new_tokens: int = 60) -> list[GenerationRequest]:
    sampling = SamplingParams(**params)
    return [ask(prompt, max_new_tokens, sampling=sampling) for prompt in PROMPTS]


def told(
    engine: BatchedTextGeneration,
    requests: list[GenerationRequest],
    wrong_at: Callable[[int], bool],
) -> Told:
    """A proposer that knows what the engine answers without one."""
    answers = {}
    for request, answer in zip(requests, run(engine, requests), strict=True):
        ids = [token.id for token in engine.tokenize(request.prompt).tokens]
        answers[np.array(ids, np.int64).tobytes()] = answer.ids
    return Told(answers, wrong_at)


def count_steps(engine: BatchedTextGeneration, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of tokens of each step."""
    sizes: list[int] = []
    run_batch = engine._runner.run

    def counted(batch: Any) -> Any:
        sizes.append(len(batch.token_ids))
        return run_batch(batch)

    monkeypatch.setattr(engine._runner, "run", counted)
    return sizes


@pytest.mark.parametrize("params", RULES)
@pytest.mark.parametrize(
    "wrong_at", [lambda _: False, lambda place: place % 5 == 3, lambda place: place % 2 == 0]
)
def test_guesses_right_and_wrong_change_no_answer(
    engine: BatchedTextGeneration, params: dict[str, Any], wrong_at: Callable[[int], bool]
) -> None:
    requests = requests_of(params)
    without = run(engine, requests)
    engine.proposer = told(engine, requests, wrong_at)
    for request, expected in zip(requests, without, strict=True):
        (alone,) = run(engine, [request])
        assert (alone.ids, alone.text, alone.finish) == (
            expected.ids,
            expected.text,
            expected.finish,
        )
        assert [token.token.logprob for token in alone.tokens] == pytest.approx(
            [token.token.logprob for token in expected.tokens], abs=1e-4
        )
    assert [answer.ids for answer in run(engine, requests)] == [answer.ids for answer in without]


def test_right_guesses_save_steps(
    engine: BatchedTextGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = ask("the cat", 60)
    engine.proposer = told(engine, [request], lambda _: False)
    sizes = count_steps(engine, monkeypatch)
    run(engine, [request])
    assert len(sizes) < 12
    assert max(sizes) <= SchedulerLimits().max_rows_guessing


def test_more_streams_guess_less_and_many_not_at_all(engine: BatchedTextGeneration) -> None:
    scheduler = engine.scheduler
    rooms = []
    for number in range(1, 18):
        engine.add(number, ask("x", 50))
        engine.step()
        rooms.append(scheduler.room_for_guesses(scheduler._decoding[-1]))
    assert rooms[:8] == [15, 7, 4, 3, 2, 1, 1, 1]
    assert max(rooms[8:]) <= 0
    engine._inbox.cancel(1)
    while engine.has_work():
        engine.step()


def test_answers_end_where_they_would_without_guesses(engine: BatchedTextGeneration) -> None:
    (whole,) = run(engine, [ask("hello world", 60)])
    stop = whole.text[20:23]
    requests = [ask("hello world", 60, stop=(stop,)), ask("hello world", 7)]
    requests.append(ask("hello world", 60, max_total_tokens=30))
    expected = [run(engine, [request])[0] for request in requests]
    assert expected[0].finish is not None
    assert expected[0].finish.reason is FinishReason.STOP_SEQUENCE
    engine.proposer = told(engine, [ask("hello world", 60)], lambda _: False)
    for request, before in zip(requests, expected, strict=True):
        (after,) = run(engine, [request])
        assert (after.ids, after.text, after.finish) == (before.ids, before.text, before.finish)


def test_a_grammar_is_not_guessed_past(
    engine: BatchedTextGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    grammar = Grammar(GrammarKind.REGEX, "[ab]{20}")
    (expected,) = run(engine, [ask("the cat", 40, grammar=grammar)])
    engine.proposer = PromptLookup()
    sizes = count_steps(engine, monkeypatch)
    (answer,) = run(engine, [ask("the cat", 40, grammar=grammar)])
    assert answer.ids == expected.ids
    assert len(sizes) == len(answer.ids)


def test_a_preempted_sequence_loses_its_guesses_and_nothing_else(
    engine: BatchedTextGeneration,
) -> None:
    requests = requests_of({}, 110)
    expected = run(engine, requests)
    engine.proposer = told(engine, requests, lambda place: place % 7 == 6)
    blocks = BlockManager(9, engine._runner.block_size)
    engine.scheduler = Scheduler(blocks, SchedulerLimits())
    answers = run(engine, requests)
    assert engine.scheduler.num_preemptions > 0
    assert [answer.ids for answer in answers] == [answer.ids for answer in expected]


def test_look_up_saves_steps_where_a_text_repeats(
    engine: BatchedTextGeneration, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repeating = ask("x", 60, sampling=SamplingParams(logit_bias=((40, 1000.0),)))
    requests = [*requests_of({}), repeating]
    expected = [answer.ids for answer in run(engine, requests)]
    options = EngineOptions(speculation=Speculation.PROMPT_LOOKUP)
    looking = load_batched_text_generation(folder, options, 1)
    assert [answer.ids for answer in run(looking, requests)] == expected
    sizes = count_steps(looking, monkeypatch)
    assert run(looking, [repeating])[0].ids == [40] * 60
    assert len(sizes) < 12
    looking.unload()


@pytest.mark.parametrize(
    ("prompt", "generated", "num_tokens", "expected"),
    [
        ([1, 2, 3, 4, 5, 9], [2, 3], 3, [4, 5, 9]),
        ([1, 2, 3, 4, 7, 2, 3, 5], [2, 3], 2, [5, 2]),  # the last time counts
        ([1, 2, 3, 4, 7, 2, 3, 5, 1], [2, 3], 1, [4]),  # and a longer run before it
        ([6, 7], [6, 7, 6, 7], 5, [6, 7, 6, 7, 6]),
        ([1, 2, 3], [4], 3, []),
        ([1], [], 3, []),
        ([1, 1], [1], 2, [1, 1]),
    ],
)
def test_a_sequence_is_taken_to_go_on_as_before(
    prompt: list[int], generated: list[int], num_tokens: int, expected: list[int]
) -> None:
    sequence = ScheduledSequence(np.array(prompt, np.int64), 10)
    sequence.generated_ids += generated
    assert PromptLookup().propose(sequence, num_tokens) == expected
