"""What is kept of an inference request when it has ended: metrics, a log line, a span.

Never a prompt, an answer or a token: the model, the plan, and figures.
"""

from collections.abc import Mapping
from typing import Protocol

from gatehouse.core.errors import GatehouseError, Limited
from gatehouse.http.endings import Ending
from gatehouse.http.model_gates import NamedModel
from gatehouse.inference.cache.response_cache import CacheOutcome
from gatehouse.inference.errors import (
    GenerationFailed,
    HostLost,
    ModelLoading,
    ModelOverloaded,
    ModelTimedOut,
    ToolRefused,
)
from gatehouse.inference.meter import Meter
from gatehouse.observability.logging import logger
from gatehouse.observability.metrics import InferenceRequest, Metrics
from gatehouse.observability.tracing import record_span

_ABANDONED = "abandoned"
_UNPROCESSABLE = 422
# For those that were refused before they were let in.
_BY_STATUS = {200: None, _UNPROCESSABLE: "validation", 429: "limited"}
_MILLISECONDS = 1000
_FAILURES: tuple[tuple[type[GatehouseError], str], ...] = (
    (ToolRefused, "tool_error"),
    (ModelOverloaded, "overloaded"),
    (HostLost, "incomplete"),
    (GenerationFailed, "generation"),
    (ModelLoading, "loading"),
    (ModelTimedOut, "loading"),
    (Limited, "limited"),
)


class EndedCall(Protocol):
    """What is asked of a `ModelCall`."""

    meter: Meter
    cache_outcome: CacheOutcome | None
    num_new_tokens: int | None
    ended_by: BaseException | None

    @property
    def adapter(self) -> NamedModel | None: ...

    @property
    def name(self) -> str: ...

    @property
    def plan(self) -> str: ...


def note_end(call: EndedCall, ending: Ending, metrics: Metrics, headers: Mapping[str, str]) -> None:
    """Keep what is kept of a call that ran a model, or was refused before it could."""
    if not call.num_new_tokens and ending.status != _UNPROCESSABLE:
        return  # a question about the model, or refused for other reasons than what it asks
    failure, meter = _failure(call, ending), call.meter
    inference = max(0.0, ending.seconds - meter.validation_seconds - meter.queue_seconds)
    if failure != _ABANDONED:
        metrics.inference_request(
            InferenceRequest(
                model=call.name,
                failure=failure,
                total_seconds=ending.seconds,
                validation_seconds=meter.validation_seconds,
                queue_seconds=meter.queue_seconds,
                inference_seconds=inference,
                num_prompt_tokens=meter.num_prompt_tokens,
                num_generated_tokens=meter.num_generated_tokens,
                max_new_tokens=call.num_new_tokens or 0,
                is_cached=meter.is_cached,
            )
        )
    figures: dict[str, str | int | float] = {
        "model": call.name,
        "route": ending.route,
        "status": ending.status,
        "plan": call.plan,
        "prompt_tokens": meter.num_prompt_tokens,
        "generated_tokens": meter.num_generated_tokens,
        "total_ms": round(ending.seconds * _MILLISECONDS, 1),
        "queue_ms": round(meter.queue_seconds * _MILLISECONDS, 1),
        "inference_ms": round(inference * _MILLISECONDS, 1),
        "cache": "none" if call.cache_outcome is None else call.cache_outcome.value,
        "outcome": failure or "success",
    }
    if call.adapter is not None:
        figures["adapter"] = call.adapter.name
    logger.info("inference", **figures)
    record_span("inference", ending.seconds, figures, headers, failure)


def _failure(call: EndedCall, ending: Ending) -> str | None:
    """Why it failed, in text-generation-inference's words where it has one; None for a success."""
    error = call.ended_by
    if error is None:
        return _BY_STATUS.get(ending.status, "other")
    if not isinstance(error, GatehouseError):
        return "other" if isinstance(error, Exception) else _ABANDONED
    if getattr(error, "error_type", None) == "validation":
        return "validation"
    return next((name for kind, name in _FAILURES if isinstance(error, kind)), "other")
