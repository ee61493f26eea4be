"""Answers and events in the shapes that clients of text-generation-inference read."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from gatehouse.engines.base import GenerationRequest, SequenceOutput, TextPrompt
from gatehouse.inference.errors import (
    GenerationFailed,
    GenerationRefused,
    HostLost,
    ValidationFailed,
)
from gatehouse.inference.generation import Target, TextGeneration
from gatehouse.inference.lifecycle.host_connection import HostConnection, Ready
from gatehouse.inference.lifecycle.hosts import ModelHosts
from gatehouse.inference.lifecycle.messages import Claim, ModelSource
from gatehouse.inference.meter import Meter
from gatehouse.inference.parameters import RouteDefaults, TextGenerationJob, parse_text_generation

pytestmark = pytest.mark.anyio

ROUTE = RouteDefaults(max_new_tokens=6, return_full_text=True)


@pytest.fixture
async def generation(supervisor_path: Path) -> AsyncIterator[TextGeneration]:
    async with ModelHosts(supervisor_path) as hosts:
        yield TextGeneration(hosts)


@pytest.fixture
def target(tiny_llama: Path) -> Target:
    source = ModelSource("1:aa", "someone/tiny", str(tiny_llama), 10**6)
    return Target("someone/tiny", "1:aa", source, Meter(), 60)


def job(
    inputs: Any = "the cat", *, is_stream: bool = False, **parameters: Any
) -> TextGenerationJob:
    body = {"inputs": inputs, "parameters": parameters}
    return parse_text_generation(body, ROUTE, 100, is_stream=is_stream)


async def events_of(
    generation: TextGeneration, target: Target, job: TextGenerationJob
) -> list[dict[str, Any]]:
    async with aclosing(generation.stream(target, job)) as events:
        return [event async for some in events for event in some]


async def test_answer_is_a_list_or_an_object_by_route(
    generation: TextGeneration, target: Target
) -> None:
    as_list = (await generation.run(target, job(), as_list=True)).body
    as_object = (await generation.run(target, job(), as_list=False)).body
    assert as_list == [as_object]
    assert list(as_object) == ["generated_text"]
    assert as_object["generated_text"].startswith("the cat")


async def test_batch_is_a_list_of_lists(generation: TextGeneration, target: Target) -> None:
    body = (await generation.run(target, job(["the cat", "hello"]), as_list=True)).body
    assert [len(answer) for answer in body] == [1, 1]
    assert [answer[0]["generated_text"][:5] for answer in body] == ["the c", "hello"]


async def test_details_have_every_key_that_clients_require(
    generation: TextGeneration, target: Target
) -> None:
    wanted = job(details=True, top_n_tokens=2, return_full_text=False)
    answer = await generation.run(target, wanted, as_list=False)
    details = answer.body["details"]
    assert list(details) == [
        "finish_reason",
        "generated_tokens",
        "seed",
        "prefill",
        "tokens",
        "top_tokens",
    ]
    assert details["finish_reason"] == "length"
    assert details["generated_tokens"] == len(details["tokens"]) == 6
    assert details["seed"] is None
    assert details["prefill"] == []
    assert list(details["tokens"][0]) == ["id", "text", "logprob", "special"]
    assert "".join(token["text"] for token in details["tokens"]) == answer.body["generated_text"]
    assert (answer.num_prompt_tokens, answer.num_generated_tokens) == (3, 6)
    prefill = await generation.run(target, job(decoder_input_details=True), as_list=False)
    assert [token["text"] for token in prefill.body["details"]["prefill"]][:2] == ["<s>", "the"]


async def test_several_sequences_differ_and_their_seeds_repeat_them(
    generation: TextGeneration, target: Target
) -> None:
    wanted = job(num_return_sequences=3, do_sample=True, seed=5, details=True)
    body = (await generation.run(target, wanted, as_list=True)).body
    assert [answer["details"]["seed"] for answer in body] == [5, 6, 7]
    assert len({answer["generated_text"] for answer in body}) > 1
    single = (await generation.run(target, job(do_sample=True, seed=6), as_list=False)).body
    assert single["generated_text"] == body[1]["generated_text"]


async def test_best_of_answers_the_likelier_one(generation: TextGeneration, target: Target) -> None:
    wanted = job(best_of=2, do_sample=True, details=True)
    answer = (await generation.run(target, wanted, as_list=False)).body
    (other,) = answer["details"]["best_of_sequences"]
    best = sum(token["logprob"] for token in answer["details"]["tokens"])
    assert best >= sum(token["logprob"] for token in other["tokens"])
    assert other["generated_text"].startswith("the cat")


async def test_stream_has_one_event_a_token(generation: TextGeneration, target: Target) -> None:
    whole = (await generation.run(target, job(), as_list=False)).body["generated_text"]
    events = await events_of(generation, target, job(is_stream=True, details=True))
    assert [event["index"] for event in events] == [1, 2, 3, 4, 5, 6]
    for event in events[:-1]:
        assert list(event) == ["index", "token", "generated_text", "details"]
        assert event["generated_text"] is event["details"] is None
    assert "the cat" + "".join(event["token"]["text"] for event in events) == whole
    assert events[-1]["generated_text"] == whole
    assert events[-1]["details"] == {
        "finish_reason": "length",
        "generated_tokens": 6,
        "seed": None,
        "input_length": 3,
    }


async def test_stop_text_is_kept_in_the_answer(generation: TextGeneration, target: Target) -> None:
    whole = (await generation.run(target, job(max_new_tokens=20), as_list=False)).body
    text = whole["generated_text"].removeprefix("the cat")
    stop = text[4:6]
    wanted = job(max_new_tokens=20, stop=[stop], return_full_text=False, details=True)
    answer = (await generation.run(target, wanted, as_list=False)).body
    assert answer["generated_text"] == text[: text.index(stop) + 2]
    assert answer["details"]["finish_reason"] == "stop_sequence"


async def test_prompt_over_the_context_is_a_validation_error(
    generation: TextGeneration, target: Target
) -> None:
    with pytest.raises(GenerationRefused) as refused:
        await generation.run(target, job("x " * 100), as_list=True)
    assert refused.value.error_type == "validation"
    assert refused.value.message.startswith("Input validation error: `inputs` must have less than")


@pytest.mark.parametrize("truncate", [0, 128, 1000])
async def test_truncate_is_bounded_by_the_context(
    generation: TextGeneration, target: Target, truncate: int
) -> None:
    sentence = "`truncate` must be strictly positive and less than 127. Given: "
    with pytest.raises(ValidationFailed, match=sentence):
        await generation.run(target, job(truncate=truncate), as_list=True)


async def test_prompts_are_used_again_for_their_own_caller_only(
    generation: TextGeneration, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    scopes: list[str] = []
    generate = HostConnection.generate

    def noting(
        host: HostConnection, request: GenerationRequest, ready: Ready | None = None
    ) -> AsyncGenerator[SequenceOutput]:
        scopes.append(request.reuse_scope)
        return generate(host, request, ready)

    monkeypatch.setattr(HostConnection, "generate", noting)
    for caller in ("user 1", "user 2"):
        theirs = replace(target, claim=Claim(caller))
        await generation.run(theirs, job(), as_list=True)
    assert scopes == ["user 1", "user 2"]


async def test_first_failure_ends_the_other_sequences(target: Target) -> None:
    class Broken(TextGeneration):
        async def outputs(
            self, target: Target, request: GenerationRequest
        ) -> AsyncGenerator[SequenceOutput]:
            if request.max_new_tokens == 2:
                raise GenerationFailed("broken")
            await anyio.sleep_forever()
            yield SequenceOutput(1)

    requests = [GenerationRequest(TextPrompt("a"), max_new_tokens=n) for n in range(1, 4)]
    with pytest.raises(GenerationFailed):
        await Broken(ModelHosts(Path("unused"))).sequences(target, requests)


async def test_lost_host_is_asked_once_more_unless_it_had_begun(target: Target) -> None:
    attempts: list[int] = []

    class Flaky(TextGeneration):
        async def _attempt(
            self, target: Target, request: GenerationRequest
        ) -> AsyncGenerator[SequenceOutput]:
            attempts.append(1)
            if len(attempts) > 1:
                yield SequenceOutput(1)
            raise HostLost

    flaky = Flaky(ModelHosts(Path("unused")))
    with pytest.raises(HostLost):
        await flaky.sequence(target, job().request)
    assert len(attempts) == 2
    with pytest.raises(HostLost):
        await flaky.sequence(target, job().request)
    assert len(attempts) == 3
