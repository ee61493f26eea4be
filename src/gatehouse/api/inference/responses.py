"""OpenAI's responses, for the model in the path or the one that the body names."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.api.inference.answers import json_answer
from gatehouse.api.inference.bodies import read_json_object
from gatehouse.api.inference.calls import ModelCall, ModelCallDependency
from gatehouse.api.inference.events import Event, EventStream
from gatehouse.api.inference.figures import figures_of
from gatehouse.api.inference.paths import model_paths, root_paths
from gatehouse.api.inference.refusals import InferenceRoute, refusal, refusal_event
from gatehouse.api.inference.root_calls import BodyCall
from gatehouse.core.errors import GatehouseError
from gatehouse.inference.responses import (
    ResponseJob,
    parse_response,
    run_response,
    stream_response,
)

router = APIRouter(route_class=InferenceRoute)


class NamedEvents(EventStream):
    """Events whose name stands on a line of its own too."""

    def encode(self, event: Event) -> bytes:
        name = str(event.get("type", "error")).encode()
        return b"event: " + name + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"


async def responses(call: ModelCallDependency, request: Request) -> Response:
    return await answer_responses(call, await read_json_object(request))


async def root_responses(call: BodyCall, request: Request) -> Response:
    return await answer_responses(call, await read_json_object(request))


async def answer_responses(call: ModelCall, body: dict[str, Any]) -> Response:
    """The answer to a response's body, streamed if it says so."""
    limits = call.limits
    try:
        job = parse_response(body, limits.max_new_tokens, limits.priority)
        await call.use_adapter(body)
        if job.chat.is_stream:
            return _stream(call, body, job)
        return await call.unless_client_leaves(lambda: _run(call, body, job))
    except GatehouseError as error:
        return refusal(call.request, error, call.headers)


async def _run(call: ModelCall, body: dict[str, Any], job: ResponseJob) -> Response:
    async with call.counted(job.chat.num_new_tokens):
        target = await call.find_model(body, is_stream=False)
        answer = await run_response(call.services.chat.conversations, target, job)
    return json_answer(answer, call.headers | figures_of(call))


def _stream(call: ModelCall, body: dict[str, Any], job: ResponseJob) -> Response:
    async def events() -> AsyncGenerator[Event]:
        async with call.counted(job.chat.num_new_tokens):
            target = await call.find_model(body, is_stream=True)
            stream = stream_response(call.services.chat.conversations, target, job)
            async with aclosing(stream) as named:
                async for event in named:
                    yield event

    def refuse(error: GatehouseError) -> Response:
        return refusal(call.request, error, call.headers)

    return NamedEvents(events, call.headers, refuse, refusal_event)


for _path in model_paths("/v1/responses"):
    router.add_api_route(_path, responses, methods=["POST"], include_in_schema=False)
for _path in root_paths("/v1/responses"):
    router.add_api_route(_path, root_responses, methods=["POST"], include_in_schema=False)
