"""Requests and models that ask for the impossible: each is told so, and the others go on."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from generating import ask, run
from safetensors.torch import load_file, save_file

from gatehouse.engines.base import (
    GenerationRequest,
    RefusalKind,
    RequestRefused,
    SamplingParams,
    TextPrompt,
    TokensPrompt,
)
from gatehouse.engines.pipelines import waiting_queue
from gatehouse.engines.pipelines.text_generation import TextGenerationEngine, load_text_generation


@pytest.fixture(scope="module")
def llama(llama_folder: Path) -> TextGenerationEngine:
    return load_text_generation(llama_folder)


@pytest.fixture(autouse=True)
def nothing_is_left(llama: TextGenerationEngine) -> Iterator[None]:
    yield
    assert not llama.has_work()
    assert llama.budget.num_allocated == 0


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1])
def test_any_seed_of_64_bits_is_taken(llama: TextGenerationEngine, seed: int) -> None:
    request = ask("the cat", 3, sampling=SamplingParams(do_sample=True, seed=seed))
    first, second = run(llama, [request, request])
    assert first.ids == second.ids
    assert first.start is not None
    assert first.start.seed == seed


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1e-300},
        {"temperature": 1e300},
        {"top_k": 2**62},
        {"top_p": 1e-300},
        {"typical_p": 1e-300},
        {"min_p": 1.0},
        {"repetition_penalty": 1e30},
        {"repetition_penalty": 1e-30},
        {"repetition_penalty": 5e-324},
        {"min_length": 2**40},
        {"frequency_penalty": 2.0, "presence_penalty": -2.0},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Unfeasible length constraints")
def test_extreme_sampling_gives_tokens_or_one_failure(
    llama: TextGenerationEngine, options: dict[str, Any]
) -> None:
    llama.add(1, ask("the cat", 4, sampling=SamplingParams(do_sample=True, seed=1, **options)))
    llama.add(2, ask("the cat", 4))
    ends = {}
    while llama.has_work():
        for output in llama.step():
            if output.is_last:
                ends[output.request_id] = output
    assert ends.keys() == {1, 2}
    assert ends[2].failure is None


@pytest.mark.parametrize("penalty", [5e-324, 1e-30, 1e30])
def test_penalties_beyond_float32_are_the_largest_there_are(
    llama: TextGenerationEngine, penalty: float
) -> None:
    sampling = SamplingParams(repetition_penalty=penalty)
    (answer,) = run(llama, [ask("the cat", 4, sampling=sampling)])
    assert answer.ids


@pytest.mark.parametrize("number", [0, -1, 2**31, 2**62])
def test_impossible_lengths_are_refused(llama: TextGenerationEngine, number: int) -> None:
    with pytest.raises(RequestRefused) as refused:
        llama.add(1, ask("the cat", number))
    assert refused.value.kind is RefusalKind.VALIDATION


def test_huge_lengths_may_be_fitted_to_the_context(llama: TextGenerationEngine) -> None:
    llama.add(1, ask("the cat", 2**62, fit_to_context=True))
    llama.step()
    assert llama.budget.num_allocated == 128
    llama.cancel(1)
    llama.step()


def test_empty_prompts_are_refused(gpt2_folder: Path, llama: TextGenerationEngine) -> None:
    gpt2 = load_text_generation(gpt2_folder)
    with pytest.raises(RequestRefused, match="`inputs` has no tokens"):
        gpt2.add(1, ask(""))
    with pytest.raises(RequestRefused, match="`inputs` has no tokens"):
        llama.add(1, GenerationRequest(TokensPrompt(())))
    # This one's tokenizer begins every text with a token.
    assert len(run(llama, [ask("", 2)])[0].ids) == 2


def test_half_a_character_is_refused(llama: TextGenerationEngine) -> None:
    with pytest.raises(RequestRefused, match="half of a surrogate pair"):
        llama.add(1, ask("a\ud800b"))


@pytest.mark.parametrize("text", ["\x00", "\U0010ffff\ufdd0", "\u200b\u202e", "<s>" * 30])
def test_odd_characters_are_text_too(llama: TextGenerationEngine, text: str) -> None:
    (answer,) = run(llama, [ask(text, 2)])
    assert answer.finish is not None


@pytest.mark.parametrize("sampling", [SamplingParams(), SamplingParams(do_sample=True, seed=1)])
def test_weights_that_are_not_numbers_fail_cleanly(
    llama_folder: Path, tmp_path: Path, sampling: SamplingParams
) -> None:
    folder = shutil.copytree(llama_folder, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][:] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    engine = load_text_generation(folder)
    engine.add(1, ask("the cat", 4, sampling=sampling))
    engine.add(2, ask("the cat", 4, sampling=sampling, prompt_details=True))
    outputs = []
    while engine.has_work():
        outputs += engine.step()
    assert [output.request_id for output in outputs] == [1, 2]
    for output in outputs:
        assert output.failure is not None
        assert output.failure.kind is RefusalKind.GENERATION
    assert engine.budget.num_allocated == 0


def test_place_in_the_queue_is_free_at_once(
    llama: TextGenerationEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_queue, "MAX_WAITING", 1)
    llama.add(1, ask("the cat", 2))
    llama.cancel(1)
    llama.add(2, ask("the cat", 2))
    assert [output.request_id for output in llama.step()] == [2]
    llama.cancel(2)
    llama.step()


def test_memory_of_a_cancelled_sequence_lets_the_next_one_in(
    llama: TextGenerationEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama.budget, "capacity", 130)
    llama.add(1, ask("the cat", 100))
    llama.add(2, ask("the cat", 100))
    assert [output.request_id for output in llama.step()] == [1]
    assert [output.request_id for output in llama.step()] == [1]
    llama.cancel(1)
    assert [output.request_id for output in llama.step()] == [2]
    llama.cancel(2)
    llama.step()


def test_equal_priorities_go_by_arrival(llama: TextGenerationEngine) -> None:
    for number, priority in enumerate((1, 0, 1, 0, -1)):
        llama.add(number, ask("the cat", 1, priority=priority))
    order = [output.request_id for _ in range(5) for output in llama.step()]
    assert order == [4, 1, 3, 0, 2]


def test_truncating_to_nothing_is_refused(gpt2_folder: Path) -> None:
    gpt2 = load_text_generation(gpt2_folder)
    with pytest.raises(RequestRefused):
        gpt2.add(1, GenerationRequest(TextPrompt("", truncate=1)))
