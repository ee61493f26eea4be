"""The engine over our own scheduler and graphs, against `transformers.generate` in float32."""

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from generating import Answer, ask, run
from tiny_models import save_tiny_llama
from transformers import AutoModelForCausalLM, AutoTokenizer

from gatehouse.engines.base import (
    ChatPrompt,
    EmbeddingRequest,
    EngineOptions,
    Finish,
    FinishReason,
    GenerationRequest,
    Grammar,
    GrammarKind,
    ModelNotLoadable,
    RefusalKind,
    RequestRefused,
    RunnerName,
    SamplingParams,
    TextPrompt,
)
from gatehouse.engines.choice import load_text_generation
from gatehouse.engines.llm import inbox
from gatehouse.engines.llm.block_manager import BlockManager
from gatehouse.engines.llm.blocks import BlockAccountingBroken
from gatehouse.engines.llm.engine import BatchedTextGeneration
from gatehouse.engines.llm.loading import load_batched_text_generation
from gatehouse.engines.pipelines.text_generation import TextGenerationEngine

PROMPTS = [
    "the cat",
    "hello world",
    "a dog ran over the hill and",
    "while",
    "the mat came again and the cat sat on",
    "日本語 text",
    "naïve café",
    "x",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("exact"), dtype=torch.float32)


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, list[int]]:
    """What `generate` makes of each prompt."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = {}
    for prompt in PROMPTS:
        inputs = tokenizer(prompt, return_tensors="pt")
        output = model.generate(**inputs, max_new_tokens=24, do_sample=False)
        found[prompt] = [int(token) for token in output[0, inputs.input_ids.shape[1] :]]
    assert len({tuple(ids) for ids in found.values()}) > 5
    return found


@pytest.fixture
def engine(folder: Path) -> Iterator[BatchedTextGeneration]:
    engine = load_batched_text_generation(folder, EngineOptions(), 1)
    yield engine
    engine.unload()


_PAIRS = ("ab", "cd")


def ids_of(answers: list[Answer]) -> list[list[int]]:
    return [answer.ids for answer in answers]


def drain(engine: BatchedTextGeneration) -> list[Any]:
    outputs = []
    while engine.has_work():
        outputs += engine.step()
    return outputs


def test_greedy_tokens_are_those_of_generate_alone_and_together(
    engine: BatchedTextGeneration, expected: dict[str, list[int]]
) -> None:
    alone = [run(engine, [ask(prompt)])[0].ids for prompt in PROMPTS]
    assert alone == list(expected.values())
    crowd = [ask(prompt) for prompt in PROMPTS] * 5  # more than run at once
    assert ids_of(run(engine, crowd)) == list(expected.values()) * 5


def test_an_engine_that_loses_a_block_does_not_go_on(
    engine: BatchedTextGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BlockManager, "release", lambda blocks, sequence: None)
    with pytest.raises(BlockAccountingBroken):
        run(engine, [ask("the cat")])


def test_text_is_what_the_tokenizer_decodes(engine: BatchedTextGeneration, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for answer in run(engine, [ask(prompt, 60) for prompt in PROMPTS]):
        assert answer.text == tokenizer.decode(answer.ids, skip_special_tokens=True)


def test_same_seed_gives_the_same_text_alone_and_in_a_crowd(
    engine: BatchedTextGeneration,
) -> None:
    request = ask("the cat", sampling=SamplingParams(do_sample=True, seed=3, temperature=1.2))
    others = [ask(text, sampling=SamplingParams(do_sample=True)) for text in PROMPTS[:5]]
    alone = run(engine, [request])[0]
    assert run(engine, [*others, request, *others])[5].ids == alone.ids
    another = msgspec.structs.replace(request.sampling, seed=4)
    assert run(engine, [ask("the cat", sampling=another)])[0].ids != alone.ids


def test_prompts_with_the_same_beginning_are_not_run_twice(
    engine: BatchedTextGeneration, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = " ".join(PROMPTS * 2)
    before = run(engine, [ask(long, reuse_scope="ada")])[0].ids
    sizes: list[int] = []
    run_batch = engine._runner.run

    def count(batch: Any) -> Any:
        sizes.append(len(batch.token_ids))
        return run_batch(batch)

    monkeypatch.setattr(engine._runner, "run", count)
    assert run(engine, [ask(long, reuse_scope="ada")])[0].ids == before
    with_reuse = sizes[0]
    sizes.clear()
    assert run(engine, [ask(long, reuse_scope="bob")])[0].ids == before
    num_prompt_tokens = len(AutoTokenizer.from_pretrained(folder)(long).input_ids)
    assert sizes[0] == num_prompt_tokens
    assert with_reuse <= num_prompt_tokens - 32


def test_details_hold_log_probabilities(engine: BatchedTextGeneration, folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = AutoTokenizer.from_pretrained(folder)("the cat", return_tensors="pt").input_ids
    with torch.inference_mode():
        logprobs = torch.log_softmax(model(ids).logits[0], dim=-1)
    answer = run(engine, [ask("the cat", 3, prompt_details=True, num_top_tokens=2)])[0]
    assert answer.start is not None
    assert answer.start.num_prompt_tokens == ids.shape[1]
    scores = [token.logprob for token in answer.start.prompt_tokens]
    assert scores[0] is None
    wanted = [float(logprobs[place, token]) for place, token in enumerate(ids[0, 1:])]
    assert scores[1:] == pytest.approx(wanted, abs=1e-3)
    assert [len(top) for top in answer.start.prompt_top] == [0] + [2] * (ids.shape[1] - 1)
    first = answer.tokens[0]
    assert first.token.logprob == pytest.approx(float(logprobs[-1].max()), abs=1e-3)
    assert first.top[0].id == first.token.id
    assert len(first.top) == 2


def test_prompt_is_scored_without_generating(engine: BatchedTextGeneration) -> None:
    answer = run(engine, [ask("the cat sat", 0, prompt_details=True)])[0]
    assert answer.finish == Finish(FinishReason.LENGTH, 0)
    assert answer.start is not None
    assert len(answer.start.prompt_tokens) == answer.start.num_prompt_tokens


def test_stop_text_ends_a_sequence(
    engine: BatchedTextGeneration, expected: dict[str, list[int]]
) -> None:
    text = run(engine, [ask("the cat")])[0].text
    stop = text[4:7]
    answer = run(engine, [ask("the cat", stop=(stop,), keep_stop=False)])[0]
    assert answer.text == text[: text.index(stop)]
    assert answer.finish is not None
    assert answer.finish.reason is FinishReason.STOP_SEQUENCE
    assert len(answer.ids) < len(expected["the cat"])


def test_grammar_holds_beside_free_sequences(
    engine: BatchedTextGeneration, expected: dict[str, list[int]]
) -> None:
    grammar = Grammar(GrammarKind.REGEX, "(ab|cd){3}")
    answers = run(engine, [ask("hello world"), ask("the cat", grammar=grammar), ask("x")])
    assert ids_of([answers[0], answers[2]]) == [expected["hello world"], expected["x"]]
    assert answers[1].text in {a + b + c for a in _PAIRS for b in _PAIRS for c in _PAIRS}


def test_cancelled_sequence_gives_its_blocks_back(
    engine: BatchedTextGeneration, expected: dict[str, list[int]]
) -> None:
    engine.add(1, ask("the cat", 100))
    engine.add(2, ask("hello world"))
    for _ in range(5):
        engine.step()
    engine.cancel(1)
    engine.cancel(77)
    ids = [token.token.id for output in drain(engine) for token in output.tokens]
    assert ids == expected["hello world"][5:]
    engine.scheduler.audit()
    assert not engine.has_work()


def test_cancelled_before_its_first_step_never_starts(engine: BatchedTextGeneration) -> None:
    engine.add(1, ask("the cat"))
    engine.cancel(1)
    assert drain(engine) == []


def test_lower_priority_number_goes_first(engine: BatchedTextGeneration) -> None:
    for number in range(40):  # more than run at once
        engine.add(number, ask("the cat", 8, priority=5))
    engine.add(99, ask("hello world", 2, priority=0))
    finished = [output.request_id for output in drain(engine) if output.finish]
    assert finished[0] == 99
    assert sorted(finished) == [*range(40), 99]


def test_a_full_queue_keeps_out_only_who_would_go_last(
    engine: BatchedTextGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "MAX_WAITING", 3)
    for number in range(3):
        engine.add(number, ask("the cat", 2, priority=5))
    with pytest.raises(RequestRefused) as caught:
        engine.add(3, ask("the cat", 2, priority=5))
    assert caught.value.kind is RefusalKind.OVERLOADED
    engine.add(4, ask("the cat", 2, priority=1))
    engine.step()  # all of them begin
    engine.add(5, ask("the cat", 2, priority=5))
    assert {output.request_id for output in drain(engine) if output.finish} == {0, 1, 2, 4, 5}


def test_broken_numbers_fail_one_sequence_only(
    engine: BatchedTextGeneration, expected: dict[str, list[int]]
) -> None:
    bias = tuple((token, 1e38) for token in range(3))
    broken = SamplingParams(repetition_penalty=1.5, logit_bias=bias, temperature=1e-5)
    engine.add(1, ask("the cat", sampling=msgspec.structs.replace(broken, do_sample=True, seed=1)))
    engine.add(2, ask("hello world"))
    outputs = drain(engine)
    ids = [token.token.id for out in outputs if out.request_id == 2 for token in out.tokens]
    assert ids == expected["hello world"]
    assert not engine.has_work()


def test_broken_prompt_scores_fail_one_sequence_only(
    engine: BatchedTextGeneration, expected: dict[str, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_batch = engine._runner.run

    def break_scores(batch: Any) -> Any:
        logits = run_batch(batch)
        logits.highest[2:] = [math.nan] * len(logits.highest[2:])  # the prompt's own rows
        return logits

    monkeypatch.setattr(engine._runner, "run", break_scores)
    engine.add(1, ask("the cat", prompt_details=True))
    engine.add(2, ask("hello world"))
    outputs = drain(engine)
    (broken,) = [output.failure for output in outputs if output.request_id == 1]
    assert broken is not None
    assert broken.message == "Request failed during generation: NumbersNotFinite"
    ids = [token.token.id for out in outputs if out.request_id == 2 for token in out.tokens]
    assert ids == expected["hello world"]


def test_requests_that_do_not_fit_are_refused(engine: BatchedTextGeneration) -> None:
    with pytest.raises(RequestRefused, match="must be <= 128"):
        engine.add(1, ask("the cat", 5000))
    with pytest.raises(RequestRefused, match="gives no embeddings"):
        engine.add(2, EmbeddingRequest(("a",)))
    assert not engine.has_work()


def test_chat_goes_through_the_models_template(engine: BatchedTextGeneration, folder: Path) -> None:
    messages = ({"role": "user", "content": "the cat"},)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    chat = GenerationRequest(ChatPrompt(messages), max_new_tokens=5)
    (answer,) = run(engine, [chat])
    assert answer.start is not None
    plain = len(tokenizer(text, add_special_tokens=False).input_ids)
    assert answer.start.num_prompt_tokens == plain


def test_description_says_what_runs_it(engine: BatchedTextGeneration) -> None:
    told = engine.describe()
    assert (told.engine, told.dtype, told.device) == ("openvino", "float32", "cpu")
    assert told.architecture == "LlamaForCausalLM"
    assert told.context_length == 128
    assert told.has_chat_template
    assert engine.memory_bytes() > 4 * told.num_parameters


def test_unloaded_engine_has_no_work(folder: Path) -> None:
    engine = load_batched_text_generation(folder, EngineOptions(), 1)
    engine.add(1, ask("the cat"))
    engine.step()
    engine.unload()
    assert not engine.has_work()


def test_the_runner_is_the_one_that_is_wanted(folder: Path, tmp_path: Path) -> None:
    openvino = load_text_generation(folder, EngineOptions(RunnerName.OPENVINO), 1)
    assert isinstance(openvino, BatchedTextGeneration)
    other = load_text_generation(folder, EngineOptions(RunnerName.TRANSFORMERS), 1)
    assert isinstance(other, TextGenerationEngine)
    odd = shutil.copytree(folder, tmp_path / "odd")
    config = msgspec.json.decode((odd / "config.json").read_bytes())
    config |= {"architectures": ["OddForCausalLM"], "model_type": "odd"}
    (odd / "config.json").write_bytes(msgspec.json.encode(config))
    with pytest.raises(ModelNotLoadable, match="no graph"):
        load_text_generation(odd, EngineOptions(RunnerName.OPENVINO), 1)


def test_every_token_has_a_finite_log_probability(engine: BatchedTextGeneration) -> None:
    for answer in run(engine, [ask(prompt, 10) for prompt in PROMPTS]):
        for generated in answer.tokens:
            assert generated.token.logprob is not None
            assert math.isfinite(generated.token.logprob)
            assert generated.token.logprob <= 0
    (without,) = run(engine, [ask("the cat", 10, with_logprobs=False)])
    assert {generated.token.logprob for generated in without.tokens} == {None}
    prompt = TextPrompt("the cat", truncate=2)
    (short,) = run(engine, [GenerationRequest(prompt, max_new_tokens=1)])
    assert short.start is not None
    assert short.start.num_prompt_tokens == 2
