"""Refusals of the inference routes, in the form that the caller's client reads.

Text-generation-inference's below a model, OpenAI's below `/v1` and for OpenAI's own clients.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.api.inference.allowances import with_allowance
from gatehouse.api.inference.answers import error_answer, error_body, json_answer
from gatehouse.core.errors import GatehouseError
from gatehouse.http.model_gates import ModelNotFound

_OPENAI_AGENTS = ("OpenAI/", "AsyncOpenAI/")
_TYPES = {
    401: "authentication_error",
    402: "permission_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_CODES = {
    401: "invalid_api_key",
    402: "insufficient_quota",
    408: "request_timeout",
    429: "rate_limit_exceeded",
}
_SERVER_ERROR = 500

_Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class InferenceRoute(APIRoute):
    """Answers what the gate, or a handler, refuses."""

    def get_route_handler(self) -> _Handler:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                answer = await handler(request)
            except GatehouseError as error:
                answer = refusal(request, error, {})
            return await with_allowance(request, answer)

        return handle


def refusal(request: Request, error: GatehouseError, headers: dict[str, str]) -> Response:
    """The whole answer to a request that is refused before its first event."""
    answer = error_answer(error, headers)
    if answer.status_code == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    if not speaks_openai(request):
        return answer
    kept = {name: value for name, value in answer.headers.items() if name != "content-length"}
    body = {"error": openai_error(error, answer.status_code)}
    return json_answer(body, kept, answer.status_code)


def refusal_event(error: GatehouseError) -> dict[str, Any]:
    """What ends a stream of OpenAI's chunks midway."""
    status = error_answer(error, {}).status_code
    return {"error": {"http_status_code": status} | openai_error(error, status)}


def openai_error(error: GatehouseError, status: int) -> dict[str, Any]:
    """`message`, `type`, `param` and `code`."""
    fallback = "server_error" if status >= _SERVER_ERROR else "invalid_request_error"
    return {
        "message": error.message,
        "type": _TYPES.get(status, fallback),
        "param": None,
        "code": _code(error, status),
    }


def speaks_openai(request: Request) -> bool:
    """Whether the caller reads `error` as an object."""
    return request.url.path.startswith("/v1/") or is_openai_client(request)


def is_openai_client(request: Request) -> bool:
    """Whether one of OpenAI's own clients asks."""
    return request.headers.get("user-agent", "").startswith(_OPENAI_AGENTS)


def _code(error: GatehouseError, status: int) -> str | None:
    if isinstance(error, ModelNotFound):
        return "model_not_found"
    return error_body(error).get("error_type") or error.code or _CODES.get(status)
