"""OpenAI's chat completions. Where the path names the model, the body's `model` is ignored."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.api.inference.bodies import read_json_object
from gatehouse.api.inference.caching import cached_answer
from gatehouse.api.inference.calls import ModelCall, ModelCallDependency
from gatehouse.api.inference.chat_quirks import quirks_of
from gatehouse.api.inference.events import EventStream
from gatehouse.api.inference.paths import model_paths, root_paths
from gatehouse.api.inference.refusals import InferenceRoute, refusal, refusal_event, speaks_openai
from gatehouse.api.inference.root_calls import BodyCall
from gatehouse.core.errors import GatehouseError
from gatehouse.inference.cache.answer_file import CachedAnswer
from gatehouse.inference.chat import ChatJob, parse_chat

router = APIRouter(route_class=InferenceRoute)
busiest = APIRouter(route_class=InferenceRoute)

_DONE = b"data: [DONE]\n\n"


async def chat_completions(call: ModelCallDependency, request: Request) -> Response:
    return await answer_chat(call, await read_json_object(request))


async def root_chat_completions(call: BodyCall, request: Request) -> Response:
    return await answer_chat(call, await read_json_object(request))


async def answer_chat(call: ModelCall, body: dict[str, Any]) -> Response:
    """The answer to a chat body, streamed if it says so."""
    limits = call.limits
    try:
        job = parse_chat(
            body,
            limits.max_new_tokens,
            limits.priority,
            tools_exclude_format=not speaks_openai(call.request),
        )
        await call.use_adapter(body)
        if job.is_stream:
            return _stream(call, body, job)
        return await call.unless_client_leaves(lambda: _run(call, body, job))
    except GatehouseError as error:
        return refusal(call.request, error, call.headers)


async def _run(call: ModelCall, body: dict[str, Any], job: ChatJob) -> Response:
    async with call.counted(job.num_new_tokens):
        target = await call.find_model(body, is_stream=False)

        async def run() -> CachedAnswer:
            answer = await call.services.chat.run(target, job)
            meter = call.meter
            return CachedAnswer(
                msgspec.json.encode(answer),
                None,
                meter.num_prompt_tokens,
                meter.num_generated_tokens,
            )

        return await cached_answer(
            call,
            body,
            target,
            replace(job, priority=0),
            run,
            task="chat",
            variant="openai",
            by_default=False,
        )


def _stream(call: ModelCall, body: dict[str, Any], job: ChatJob) -> Response:
    quirks = quirks_of(call.request, body)

    async def events() -> AsyncGenerator[dict[str, Any]]:
        async with call.counted(job.num_new_tokens):
            target = await call.find_model(body, is_stream=True)
            async with aclosing(call.services.chat.stream(target, job)) as chunks:
                async for chunk in chunks:
                    quirks.apply(chunk)
                    yield chunk

    def refuse(error: GatehouseError) -> Response:
        return refusal(call.request, error, call.headers)

    last = b"" if quirks.omits_done else _DONE
    return EventStream(events, call.headers, refuse, refusal_event, last)


for _path in model_paths("/v1/chat/completions"):
    router.add_api_route(_path, chat_completions, methods=["POST"], include_in_schema=False)
for _path in root_paths("/v1/chat/completions"):
    busiest.add_api_route(_path, root_chat_completions, methods=["POST"], include_in_schema=False)
