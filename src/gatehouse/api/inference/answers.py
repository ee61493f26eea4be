"""Answers of the inference routes: JSON with the headers clients read, errors in TGI's form."""

import math
from typing import Any

import msgspec
from starlette.responses import Response

from gatehouse.core.errors import GatehouseError, Limited, Unavailable
from gatehouse.http.errors import header_safe, status_of
from gatehouse.identity.rate_limits import Allowance, RateLimited
from gatehouse.inference.errors import (
    GenerationFailed,
    GenerationRefused,
    HostLost,
    ModelLoading,
    ModelNotServable,
    ModelOverloaded,
    ModelTimedOut,
    SuffixNotSupported,
    ToolRefused,
    ValidationFailed,
)

_RETRY_SECONDS = 5
_SHORT_SECONDS = 60


def json_answer(content: Any, headers: dict[str, str], status: int = 200) -> Response:
    """JSON under exactly `application/json`: older clients compare the whole value."""
    data = content if isinstance(content, bytes) else msgspec.json.encode(content)
    return Response(data, status, headers, media_type="application/json")


def rate_limit_headers(allowance: Allowance) -> dict[str, str]:
    """draft-ietf-httpapi-ratelimit-headers, in the form that `huggingface_hub` parses."""
    return {
        "RateLimit": f'"{allowance.name}";r={allowance.remaining};t={allowance.reset_seconds}',
        "RateLimit-Policy": (
            f'"fixed window";"{allowance.name}";q={allowance.limit};w={allowance.window_seconds}'
        ),
    }


def error_body(error: GatehouseError) -> dict[str, Any]:
    """`error`, and what typed clients need besides."""
    body: dict[str, Any] = {"error": error.message}
    error_type = _error_type(error)
    if error_type is not None:
        body["error_type"] = error_type
    if isinstance(error, ModelLoading):
        body["estimated_time"] = error.estimated_time
    return body


def error_answer(error: GatehouseError, headers: dict[str, str]) -> Response:
    """The whole refusal."""
    status = _status(error)
    headers = headers | {"X-Error-Message": header_safe(error.message)}
    if error.code:
        headers["X-Error-Code"] = error.code
    if isinstance(error, RateLimited):
        headers |= rate_limit_headers(error.allowance)
        if error.retry_after > _SHORT_SECONDS:
            # OpenAI's clients would try twice more.
            headers["x-should-retry"] = "false"
    if isinstance(error, Limited):
        headers["Retry-After"] = str(error.retry_after)
    elif isinstance(error, ModelLoading):
        headers["Retry-After"] = str(math.ceil(error.estimated_time))
    elif isinstance(error, Unavailable) and status == 503:
        headers["Retry-After"] = str(_RETRY_SECONDS)
    return json_answer(error_body(error), headers, status)


def _status(error: GatehouseError) -> int:
    if isinstance(error, ModelNotServable):
        return 400
    if isinstance(error, ValidationFailed | GenerationRefused | SuffixNotSupported | ToolRefused):
        return 422
    if isinstance(error, GenerationFailed):
        return 424
    if isinstance(error, ModelTimedOut):
        return 504
    # Not 503: some clients repeat that at once and for ever, and so would kill the next host too.
    if isinstance(error, HostLost):
        return 500
    return status_of(error)


def _error_type(error: GatehouseError) -> str | None:
    if isinstance(error, HostLost):
        return "incomplete_generation"
    typed = ValidationFailed | GenerationRefused | GenerationFailed | ModelOverloaded
    if isinstance(error, typed | SuffixNotSupported | ToolRefused):
        return error.error_type
    return None
