"""Completions as OpenAI's clients and scoring programs read them, on a tiny model."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import torch
from scripted_models import ScriptedModel, make_target
from transformers import AutoModelForCausalLM, AutoTokenizer

from gatehouse.engines.base import (
    EngineOptions,
    GeneratedToken,
    Precision,
    ScoredToken,
    Start,
)
from gatehouse.inference.completions.answers import Completions
from gatehouse.inference.completions.jobs import parse_completion
from gatehouse.inference.completions.logprobs import LegacyLogprobs
from gatehouse.inference.errors import SuffixNotSupported
from gatehouse.inference.generation import Target, TextGeneration
from gatehouse.inference.lifecycle.hosts import ModelHosts
from gatehouse.inference.lifecycle.messages import ModelSource
from gatehouse.inference.meter import Meter

pytestmark = pytest.mark.anyio


@pytest.fixture
async def completions(supervisor_path: Path) -> AsyncIterator[Completions]:
    async with ModelHosts(supervisor_path) as hosts:
        yield Completions(TextGeneration(hosts))


@pytest.fixture
def target(tiny_llama: Path) -> Target:
    exact = EngineOptions(precision=Precision.EXACT)
    source = ModelSource("1:aa", "someone/tiny", str(tiny_llama), 10**6, options=exact)
    return Target("someone/tiny", "1:aa", source, Meter(), 60)


async def run(completions: Completions, target: Target, **body: Any) -> dict[str, Any]:
    job = parse_completion({"prompt": "the cat", "temperature": 0} | body, 100)
    return await completions.run(target, job)


async def stream(
    completions: Completions, target: Target, *, with_tgi_keys: bool = False, **body: Any
) -> list[dict[str, Any]]:
    body = {"prompt": "the cat", "temperature": 0, "stream": True} | body
    job = parse_completion(body, 100)
    chunks = completions.stream(target, job, with_tgi_keys=with_tgi_keys)
    async with aclosing(chunks):
        return [chunk async for chunk in chunks]


async def test_answer_has_openais_shape(completions: Completions, target: Target) -> None:
    answer = await run(completions, target, max_tokens=4)
    assert answer["object"] == "text_completion"
    assert answer["model"] == "someone/tiny"
    assert answer["id"].startswith("cmpl-")
    (choice,) = answer["choices"]
    assert list(choice) == ["index", "text", "logprobs", "finish_reason"]
    assert (choice["logprobs"], choice["finish_reason"]) == (None, "length")
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


async def test_stop_text_is_left_out(completions: Completions, target: Target) -> None:
    text = (await run(completions, target, max_tokens=20))["choices"][0]["text"]
    (choice,) = (await run(completions, target, max_tokens=20, stop=text[4:6]))["choices"]
    assert choice["text"] == text[: text.index(text[4:6])]
    assert choice["finish_reason"] == "stop"


async def test_choices_are_numbered_over_prompts(completions: Completions, target: Target) -> None:
    prompts = ["the cat", "hello"]
    answer = await run(completions, target, prompt=prompts, n=2, max_tokens=3, echo=True)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    texts = [choice["text"] for choice in answer["choices"]]
    assert [text[:5] for text in texts] == ["the c", "the c", "hello", "hello"]
    assert texts[0] == texts[1]  # greedy
    assert answer["usage"]["completion_tokens"] == 12


async def test_best_of_gives_the_likeliest_first(completions: Completions, target: Target) -> None:
    body: dict[str, Any] = {"temperature": 2.0, "seed": 3, "max_tokens": 6, "logprobs": 0}
    every = (await run(completions, target, n=5, **body))["choices"]
    best = (await run(completions, target, n=2, best_of=5, **body))["choices"]

    def mean(choice: dict[str, Any]) -> float:
        scores = choice["logprobs"]["token_logprobs"]
        return float(sum(scores) / len(scores))

    likeliest = sorted(every, key=lambda choice: -mean(choice))[:2]
    assert [choice["text"] for choice in best] == [choice["text"] for choice in likeliest]
    assert len({choice["text"] for choice in every}) > 1


@pytest.mark.parametrize("max_tokens", [0, 1])
async def test_prompt_tokens_are_scored_as_the_model_scores_them(
    completions: Completions, target: Target, tiny_llama: Path, max_tokens: int
) -> None:
    """What evaluation programs do with token ids."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    ids = tokenizer("the cat sat on the mat").input_ids
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0].float()
    expected = torch.log_softmax(logits, dim=-1)
    body: dict[str, Any] = {"prompt": ids, "echo": True, "logprobs": 2, "max_tokens": max_tokens}
    (choice,) = (await run(completions, target, **body))["choices"]
    logprobs = choice["logprobs"]
    assert len(logprobs["tokens"]) == len(ids) + max_tokens
    assert logprobs["token_logprobs"][0] is None
    assert logprobs["top_logprobs"][0] is None
    for place, token_id in enumerate(ids[1:], start=1):
        score = float(expected[place - 1, token_id])
        assert logprobs["token_logprobs"][place] == pytest.approx(score, abs=1e-3)
        best = float(expected[place - 1].max())
        assert max(logprobs["top_logprobs"][place].values()) == pytest.approx(best, abs=0.05)
    text = choice["text"]
    assert text.startswith("the cat sat on the mat")
    for token, offset in list(zip(logprobs["tokens"], logprobs["text_offset"], strict=True))[1:]:
        assert text[offset:].startswith(token)
    assert choice["finish_reason"] == "length"


async def test_chunks_agree_with_the_whole(completions: Completions, target: Target) -> None:
    body: dict[str, Any] = {"prompt": ["the cat", "hello"], "n": 2, "max_tokens": 5, "seed": 4}
    body |= {"temperature": 1.5, "echo": True, "logprobs": 1}
    whole = await run(completions, target, **body)
    chunks = await stream(completions, target, stream_options={"include_usage": True}, **body)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == whole["usage"]
    assert len({chunk["id"] for chunk in chunks}) == 1
    for choice in whole["choices"]:
        mine = [
            part
            for chunk in chunks
            for part in chunk["choices"]
            if part["index"] == choice["index"]
        ]
        assert "".join(part["text"] for part in mine) == choice["text"]
        assert [part["finish_reason"] for part in mine] == [None] * 5 + ["length"]
        for name, values in choice["logprobs"].items():
            assert [value for part in mine for value in part["logprobs"][name]] == values


async def test_scored_prompt_can_be_streamed(completions: Completions, target: Target) -> None:
    (chunk,) = await stream(completions, target, echo=True, max_tokens=0, logprobs=0)
    (choice,) = chunk["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("the cat", "length")


async def test_chunks_may_carry_the_keys_of_text_generation(
    completions: Completions, target: Target
) -> None:
    text = (await run(completions, target, max_tokens=3))["choices"][0]["text"]
    chunks = await stream(completions, target, with_tgi_keys=True, max_tokens=3, details=True)
    assert [chunk["index"] for chunk in chunks] == [1, 2, 3]
    assert "".join(chunk["token"]["text"] for chunk in chunks) == text
    assert [chunk["generated_text"] for chunk in chunks] == [None, None, text]
    assert chunks[-1]["details"]["generated_tokens"] == 3
    assert all(chunk["choices"][0]["text"] == chunk["token"]["text"] for chunk in chunks)


async def test_log_probabilities_are_asked_for_where_chunks_tell_them() -> None:
    model = ScriptedModel()
    completions = Completions(model.generation)
    for with_tgi_keys in (True, False):
        await stream(completions, make_target(), with_tgi_keys=with_tgi_keys)
    assert [request.with_logprobs for request in model.requests] == [True, False]


async def test_suffix_needs_a_model_for_it(completions: Completions, target: Target) -> None:
    with pytest.raises(SuffixNotSupported) as refused:
        await run(completions, target, suffix="mat")
    assert refused.value.error_type == "suffix not supported"


async def test_closing_a_stream_of_many_choices_ends_them_all(
    completions: Completions, target: Target
) -> None:
    job = parse_completion({"prompt": "the cat", "n": 4, "stream": True, "max_tokens": 90}, 100)
    async with aclosing(completions.stream(target, job)) as chunks:
        async for _ in chunks:
            break
    assert target.meter.num_generated_tokens < 60


def test_same_texts_keep_the_likelier_score() -> None:
    logprobs = LegacyLogprobs(2)
    top = (ScoredToken(5, "a", -0.1, False), ScoredToken(6, "a", -2.0, False))
    logprobs.add(GeneratedToken(ScoredToken(7, "b", -3.0, False), "b", top))
    assert logprobs.body()["top_logprobs"] == [{"a": -0.1, "b": -3.0}]
    special = ScoredToken(1, "<s>", None, True)
    later = LegacyLogprobs(0)
    later.add_prompt(Start(2, None, (special, ScoredToken(2, "x", -1.0, False)), 0.0))
    assert later.body() == {
        "tokens": ["<s>", "x"],
        "token_logprobs": [None, -1.0],
        "top_logprobs": None,
        "text_offset": [0, 0],
    }
