"""What a model's endpoint says about itself: status, info, health."""

from dataclasses import replace
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from gatehouse import __version__
from gatehouse.api.inference.answers import json_answer
from gatehouse.api.inference.calls import ModelCall, ModelCallDependency
from gatehouse.api.inference.paths import MODEL, model_paths
from gatehouse.api.inference.refusals import InferenceRoute
from gatehouse.core.errors import GatehouseError, NotFound
from gatehouse.inference.errors import ModelLoading, ModelTooLarge
from gatehouse.inference.parameters import MAX_BATCH, MAX_BEST_OF, MAX_STOP_SEQUENCES
from gatehouse.inference.plans.admission import TooLargeForPlan
from gatehouse.inference.tasks import (
    FEATURE_EXTRACTION,
    SENTENCE_TRANSFORMERS,
    TEXT_GENERATION,
)

router = APIRouter(route_class=InferenceRoute)

# Asking whether a model is loaded must not load it.
_ONLY_LOADED: dict[str, Any] = {"options": {"dont_load_model": True}}
_ANSWER_SECONDS = 1.0
# What `framework` is where the model streams text, and where it gives vectors.
_TEXT = "text-generation-inference"
_VECTORS = SENTENCE_TRANSFORMERS


async def status(call: ModelCallDependency) -> Response:
    """Whether the model is in memory; never loads it."""
    try:
        state = await _state(call)
    except TooLargeForPlan:
        state = "TooBig"
    return json_answer(
        {
            "loaded": state == "Loaded",
            "state": state,
            "compute_type": "cpu",
            "framework": _VECTORS if await call.is_for_vectors() else _TEXT,
        },
        {},
    )


async def info(call: ModelCallDependency) -> Response:
    return await answer_info(call)


async def health(call: ModelCallDependency) -> Response:
    return await answer_health(call)


async def answer_info(call: ModelCall) -> Response:
    """TGI's description of a running model; loads it."""
    async with call.counted(0):
        target = await call.find_model({}, is_stream=False, task=await _task(call))
        async with call.services.generation.hold(target) as model:
            description = model.description
    body = {
        "model_id": call.name,
        "model_sha": target.version.rpartition(":")[2],
        "model_pipeline_tag": await _task(call),
        "model_dtype": description.dtype,
        "model_device_type": description.device,
        "engine": description.engine,
        "is_encoder_decoder": description.encoder_length is not None,
        "max_concurrent_requests": call.limits.num_concurrent,
        "max_best_of": MAX_BEST_OF,
        "max_stop_sequences": MAX_STOP_SEQUENCES,
        "max_input_length": description.longest_prompt,
        "max_input_tokens": description.longest_prompt,
        "max_total_tokens": description.context_length,
        "validation_workers": 1,
        "max_client_batch_size": MAX_BATCH,
        "router": "gatehouse",
        "version": __version__,
        "sha": None,
        "docker_label": None,
    }
    return json_answer(body, call.headers)


async def answer_health(call: ModelCall) -> Response:
    """Whether the model runs, or would if it were asked to; does not load it."""
    try:
        state = await _state(call)
    except NotFound:  # a revision that is none says nothing about the model's health
        raise
    except GatehouseError:
        state = "error"
    if state in ("Loaded", "Loadable"):
        return Response(status_code=200)
    return json_answer({"error": "unhealthy", "error_type": "healthcheck"}, {}, 503)


async def _task(call: ModelCall) -> str:
    if await call.is_for_vectors():
        return FEATURE_EXTRACTION
    return await call.text_task() or TEXT_GENERATION


async def _state(call: ModelCall) -> str:
    task = await _task(call)
    target = await call.find_model(_ONLY_LOADED, is_stream=False, task=task)
    # Long enough for the supervisor to answer, whatever the caller's own patience.
    target = replace(target, wait_seconds=_ANSWER_SECONDS)
    try:
        async with call.services.generation.hold(target):
            return "Loaded"
    except ModelLoading:
        return "Loadable"
    except ModelTooLarge:
        return "TooBig"


for _path in (*model_paths(""), f"/status/{MODEL}{{end:end}}"):
    router.add_api_route(_path, status, methods=["GET"], include_in_schema=False)
for _path in model_paths("/info"):
    router.add_api_route(_path, info, methods=["GET"], include_in_schema=False)
for _path in model_paths("/health"):
    router.add_api_route(_path, health, methods=["GET"], include_in_schema=False)
