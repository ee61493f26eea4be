"""Text generation: `POST /models/{id}` and text-generation-inference's own routes below it."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.api.inference.answers import error_body
from gatehouse.api.inference.bodies import read_inputs, read_json_object
from gatehouse.api.inference.caching import cached_answer
from gatehouse.api.inference.calls import ModelCall, ModelCallDependency
from gatehouse.api.inference.chat import answer_chat
from gatehouse.api.inference.completions import answer_completion
from gatehouse.api.inference.embeddings import answer_sentences
from gatehouse.api.inference.events import EventStream
from gatehouse.api.inference.paths import model_paths
from gatehouse.api.inference.refusals import InferenceRoute, refusal
from gatehouse.api.inference.text_tasks import answer_named_task
from gatehouse.core.errors import GatehouseError
from gatehouse.http.json_bodies import BodyInvalid
from gatehouse.inference.cache.answer_file import CachedAnswer
from gatehouse.inference.errors import ValidationFailed
from gatehouse.inference.lifecycle.model_sources import TaskNotSupported
from gatehouse.inference.parameters import (
    ConversationalRemoved,
    RouteDefaults,
    TextGenerationJob,
    parse_text_generation,
)
from gatehouse.inference.tasks import ANSWER_KEYS, TEXT_GENERATION
from gatehouse.inference.text_tasks import wants_text_generation

router = APIRouter(route_class=InferenceRoute)
busiest = APIRouter(route_class=InferenceRoute)

_SERVERLESS_NEW_TOKENS = 20
_GENERATE_NEW_TOKENS = 100


async def run_model(call: ModelCallDependency, request: Request) -> Response:
    """Run a model on `inputs`, `messages` or a `prompt`."""
    return await answer_whatever(call, request)


async def answer_whatever(call: ModelCall, request: Request) -> Response:
    """The answer to what the body asks for, by what the model does."""
    if await call.is_for_vectors():
        return await answer_sentences(call, await read_inputs(request))
    return await answer_text_task(call, request, await call.text_task())


async def answer_text_task(call: ModelCall, request: Request, task: str | None) -> Response:
    """The answer of a model of text: a continuation, a chat or a completion, streamed or whole.

    `task` is what is asked of it; None if nobody knows.
    """
    try:
        return await _dispatch(call, await read_inputs(request), task)
    except (BodyInvalid, ValidationFailed, ConversationalRemoved) as error:
        raise await _other_task(call) or error from None


async def _other_task(call: ModelCall) -> TaskNotSupported | None:
    """Why a body is no text: a picture for a model of pictures is not the caller's mistake."""
    try:
        await call.find_model({}, is_stream=False)
    except TaskNotSupported as error:
        return error
    except GatehouseError:
        return None
    return None


async def _dispatch(call: ModelCall, body: dict[str, Any], task: str | None) -> Response:
    if isinstance(body.get("messages"), list):
        return await answer_chat(call, body)
    if body.get("inputs") is None and body.get("prompt") is not None:
        return await answer_completion(call, body)
    if task in ANSWER_KEYS and not wants_text_generation(body):
        return await answer_named_task(call, body, task)
    defaults = RouteDefaults(call.limits.max_new_tokens, return_full_text=False, whole_answer=True)
    if task in (None, TEXT_GENERATION):
        # InferenceClient's users see the continuation only, as its documentation says.
        is_hub_client = "hf_hub/" in call.user_agent
        defaults = RouteDefaults(_SERVERLESS_NEW_TOKENS, return_full_text=not is_hub_client)
    return await answer_text(
        call, body, defaults, as_list=True, is_stream=body.get("stream") is True
    )


async def generate(call: ModelCallDependency, request: Request) -> Response:
    return await answer_generate(call, request, is_stream=False)


async def generate_stream(call: ModelCallDependency, request: Request) -> Response:
    return await answer_generate(call, request, is_stream=True)


async def answer_text(
    call: ModelCall,
    body: dict[str, Any],
    defaults: RouteDefaults,
    *,
    as_list: bool,
    is_stream: bool,
) -> Response:
    """The answer to a text-generation body."""
    limits = call.limits
    job = parse_text_generation(
        body, defaults, limits.max_new_tokens, is_stream=is_stream, priority=limits.priority
    )
    await call.use_adapter(body.get("parameters") or {})
    if is_stream:
        return _stream(call, body, job)
    return await call.unless_client_leaves(lambda: _run(call, body, job, as_list=as_list))


async def answer_generate(call: ModelCall, request: Request, *, is_stream: bool) -> Response:
    """The answer of text-generation-inference's own two routes."""
    body = await read_json_object(request)
    defaults = RouteDefaults(_GENERATE_NEW_TOKENS, return_full_text=False)
    return await answer_text(call, body, defaults, as_list=False, is_stream=is_stream)


async def _run(
    call: ModelCall, body: dict[str, Any], job: TextGenerationJob, *, as_list: bool
) -> Response:
    async with call.counted(job.num_new_tokens, len(job.prompts)):
        target = await call.find_model(body, is_stream=False)

        async def run() -> CachedAnswer:
            answer = await call.services.generation.run(target, job, as_list=as_list)
            return CachedAnswer(
                msgspec.json.encode(answer.body),
                sum(map(len, job.prompts)),
                answer.num_prompt_tokens,
                answer.num_generated_tokens,
            )

        return await cached_answer(
            call,
            body,
            target,
            job.cache_parts,
            run,
            task=TEXT_GENERATION,
            variant="list" if as_list else "object",
        )


def _stream(call: ModelCall, body: dict[str, Any], job: TextGenerationJob) -> Response:
    async def events() -> AsyncGenerator[list[dict[str, Any]]]:
        async with call.counted(job.num_new_tokens):
            target = await call.find_model(body, is_stream=True)
            async with aclosing(call.services.generation.stream(target, job)) as stream:
                async for events_of_step in stream:
                    yield events_of_step

    return EventStream(
        events,
        call.headers,
        lambda error: refusal(call.request, error, call.headers),
        error_body,
    )


busiest.add_api_route("/models/{namespace:name}/{name:name}", run_model, methods=["POST"])
for _path in model_paths(""):
    router.add_api_route(_path, run_model, methods=["POST"], include_in_schema=False)
for _path in model_paths("/generate"):
    router.add_api_route(_path, generate, methods=["POST"], include_in_schema=False)
for _path in model_paths("/generate_stream"):
    router.add_api_route(_path, generate_stream, methods=["POST"], include_in_schema=False)
