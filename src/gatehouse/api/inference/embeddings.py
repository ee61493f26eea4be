"""Vectors of texts: OpenAI's embeddings, and the two tasks of sentence models."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from anyio.to_thread import run_sync
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.api.inference.bodies import read_json_object
from gatehouse.api.inference.caching import cached_answer
from gatehouse.api.inference.calls import ModelCall, ModelCallDependency
from gatehouse.api.inference.paths import model_paths, root_paths
from gatehouse.api.inference.refusals import InferenceRoute
from gatehouse.api.inference.root_calls import BodyCall
from gatehouse.inference.cache.answer_file import CachedAnswer
from gatehouse.inference.embeddings import (
    EmbeddingJob,
    parse_features,
    parse_openai,
    parse_similarity,
)
from gatehouse.inference.generation import Target
from gatehouse.inference.tasks import ENGINE_BY_TASK, FEATURE_EXTRACTION, SENTENCE_SIMILARITY

router = APIRouter(route_class=InferenceRoute)

_Run = Callable[[Target, EmbeddingJob], Awaitable[Any]]


async def embeddings(call: ModelCallDependency, request: Request) -> Response:
    return await answer_embeddings(call, await read_json_object(request))


async def root_embeddings(call: BodyCall, request: Request) -> Response:
    return await answer_embeddings(call, await read_json_object(request))


async def answer_embeddings(call: ModelCall, body: dict[str, Any]) -> Response:
    """OpenAI's list of vectors."""
    job = parse_openai(body, call.limits.priority)
    return await _answer(call, body, job, call.services.embeddings.openai, "openai")


async def answer_features(call: ModelCall, body: dict[str, Any]) -> Response:
    """The vector of a text, or those of a list."""
    job = parse_features(body, call.limits.priority)
    return await _answer(call, body, job, call.services.embeddings.features, FEATURE_EXTRACTION)


async def answer_similarity(call: ModelCall, body: dict[str, Any]) -> Response:
    """How near each sentence is to the source."""
    job = parse_similarity(body, call.limits.priority)
    run = call.services.embeddings.similarities
    return await _answer(call, body, job, run, SENTENCE_SIMILARITY)


async def answer_sentences(call: ModelCall, body: dict[str, Any]) -> Response:
    """Whichever of the two tasks the body is for."""
    inputs = body.get("inputs")
    if isinstance(inputs, dict) and "source_sentence" in inputs:
        return await answer_similarity(call, body)
    return await answer_features(call, body)


async def _answer(
    call: ModelCall, body: dict[str, Any], job: EmbeddingJob, embed: _Run, variant: str
) -> Response:
    async def answer() -> Response:
        async with call.counted(0):
            task = variant if variant in ENGINE_BY_TASK else FEATURE_EXTRACTION
            target = await call.find_model(body, is_stream=False, task=task)

            async def run() -> CachedAnswer:
                vectors = await run_sync(msgspec.json.encode, await embed(target, job))
                num_prompt_tokens = call.meter.num_prompt_tokens
                return CachedAnswer(vectors, job.num_characters, num_prompt_tokens, 0)

            return await cached_answer(
                call,
                body,
                target,
                job.without_priority(),
                run,
                task="embeddings",
                variant=variant,
            )

    return await call.unless_client_leaves(answer)


for _path in model_paths("/v1/embeddings"):
    router.add_api_route(_path, embeddings, methods=["POST"], include_in_schema=False)
for _path in root_paths("/v1/embeddings"):
    router.add_api_route(_path, root_embeddings, methods=["POST"], include_in_schema=False)
