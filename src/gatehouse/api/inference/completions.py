"""OpenAI's completions, for the model in the path or the one that the body names."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.api.inference.bodies import read_json_object
from gatehouse.api.inference.caching import cached_answer
from gatehouse.api.inference.calls import ModelCall, ModelCallDependency
from gatehouse.api.inference.events import EventStream
from gatehouse.api.inference.paths import model_paths, root_paths
from gatehouse.api.inference.refusals import InferenceRoute, refusal, refusal_event
from gatehouse.api.inference.root_calls import BodyCall
from gatehouse.inference.cache.answer_file import CachedAnswer
from gatehouse.inference.completions.jobs import CompletionJob, parse_completion

router = APIRouter(route_class=InferenceRoute)

_DONE = b"data: [DONE]\n\n"
# Its callers are promised the events of text generation, and are handed these chunks as they are.
_READS_TGI_KEYS = "@huggingface/inference/"


async def completions(call: ModelCallDependency, request: Request) -> Response:
    return await answer_completion(call, await read_json_object(request))


async def root_completions(call: BodyCall, request: Request) -> Response:
    return await answer_completion(call, await read_json_object(request))


async def answer_completion(call: ModelCall, body: dict[str, Any]) -> Response:
    """The answer to a completion's body, streamed if it says so."""
    limits = call.limits
    job = parse_completion(body, limits.max_new_tokens, limits.priority)
    await call.use_adapter(body)
    if job.is_stream:
        return _stream(call, body, job)
    return await call.unless_client_leaves(lambda: _run(call, body, job))


async def _run(call: ModelCall, body: dict[str, Any], job: CompletionJob) -> Response:
    async with call.counted(job.num_new_tokens, len(job.prompts)):
        target = await call.find_model(body, is_stream=False)

        async def run() -> CachedAnswer:
            answer = await call.services.completions.run(target, job)
            return CachedAnswer(
                msgspec.json.encode(answer),
                job.num_characters,
                call.meter.num_prompt_tokens,
                call.meter.num_generated_tokens,
            )

        return await cached_answer(
            call,
            body,
            target,
            job.without_priority(),
            run,
            task="completions",
            variant="openai",
            by_default=False,
        )


def _stream(call: ModelCall, body: dict[str, Any], job: CompletionJob) -> Response:
    with_tgi_keys = _READS_TGI_KEYS in call.user_agent

    async def events() -> AsyncGenerator[dict[str, Any]]:
        async with call.counted(job.num_new_tokens, len(job.prompts)):
            target = await call.find_model(body, is_stream=True)
            stream = call.services.completions.stream(target, job, with_tgi_keys=with_tgi_keys)
            async with aclosing(stream) as chunks:
                async for chunk in chunks:
                    yield chunk

    return EventStream(
        events,
        call.headers,
        lambda error: refusal(call.request, error, call.headers),
        refusal_event,
        _DONE,
    )


for _path in model_paths("/v1/completions"):
    router.add_api_route(_path, completions, methods=["POST"], include_in_schema=False)
for _path in root_paths("/v1/completions"):
    router.add_api_route(_path, root_completions, methods=["POST"], include_in_schema=False)
