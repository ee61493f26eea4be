"""OpenAI's chat completions for one model, named by the path: the body's `model` is ignored."""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.api.inference.answers import error_answer, error_body, json_answer
from gatehouse.api.inference.bodies import read_json_object
from gatehouse.api.inference.calls import ModelCall, ModelCallDependency
from gatehouse.api.inference.events import EventStream
from gatehouse.api.inference.paths import model_paths
from gatehouse.api.inference.refusals import InferenceRoute
from gatehouse.core.errors import GatehouseError
from gatehouse.inference.chat import ChatJob, parse_chat

router = APIRouter(route_class=InferenceRoute)

_DONE = b"data: [DONE]\n\n"
# They parse the terminator as JSON and raise after the last chunk.
_NO_DONE = re.compile(r"hf_hub/0\.2[23]\.|^python-requests/")


async def chat_completions(call: ModelCallDependency, request: Request) -> Response:
    try:
        body = await read_json_object(request)
    except GatehouseError as error:
        return error_answer(error, call.headers)
    return await answer_chat(call, body)


async def answer_chat(call: ModelCall, body: dict[str, Any]) -> Response:
    """The answer to a chat body, streamed if it says so."""
    limits = call.limits
    try:
        job = parse_chat(body, limits.max_new_tokens, limits.priority)
        if job.is_stream:
            return _stream(call, body, job)
        return await call.unless_client_leaves(lambda: _run(call, body, job))
    except GatehouseError as error:
        return _refuse(call, error)


async def _run(call: ModelCall, body: dict[str, Any], job: ChatJob) -> Response:
    async with call.counted(job.num_new_tokens):
        target = await call.find_model(body, is_stream=False)
        return json_answer(await call.services.chat.run(target, job), call.headers)


def _stream(call: ModelCall, body: dict[str, Any], job: ChatJob) -> Response:
    async def events() -> AsyncGenerator[dict[str, Any]]:
        async with call.counted(job.num_new_tokens):
            target = await call.find_model(body, is_stream=True)
            async with aclosing(call.services.chat.stream(target, job)) as chunks:
                async for chunk in chunks:
                    yield chunk

    def describe(error: GatehouseError) -> dict[str, Any]:
        details = error_body(error)
        error_type = details.get("error_type", "server_error")
        return {"error": {"message": error.message, "type": error_type, "code": None}}

    last = b"" if _NO_DONE.search(call.user_agent) else _DONE
    return EventStream(events, call.headers, lambda error: _refuse(call, error), describe, last)


def _refuse(call: ModelCall, error: GatehouseError) -> Response:
    """TGI's form; OpenAI's own clients get theirs."""
    answer = error_answer(error, call.headers)
    if not call.user_agent.startswith(("OpenAI/", "AsyncOpenAI/")):
        return answer
    error_type = error_body(error).get("error_type")
    wrapped = {"message": error.message, "type": error_type, "param": None, "code": None}
    kept = {name: value for name, value in answer.headers.items() if name != "content-length"}
    return json_answer({"error": wrapped}, kept, answer.status_code)


for _path in model_paths("/v1/chat/completions"):
    router.add_api_route(_path, chat_completions, methods=["POST"], include_in_schema=False)
