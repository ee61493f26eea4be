"""Give every request an id that its answer, its log lines and the client's error message share."""

import re
import uuid
from time import perf_counter

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gatehouse.observability.logging import logger

_SERVER_ERROR = 500
_SANE = re.compile(r"[\w\-.:=/+]{1,128}", re.ASCII)


class RequestIdMiddleware:
    """Sets `X-Request-Id`, and logs failed requests, or all of them with `log_all`."""

    def __init__(self, app: ASGIApp, *, log_all: bool) -> None:
        self.app = app
        self.log_all = log_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope))
        started = perf_counter()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).setdefault("X-Request-Id", request_id)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_id)
            finally:
                if self.log_all or status >= _SERVER_ERROR:
                    _log(scope, status, perf_counter() - started)


def _log(scope: Scope, status: int, seconds: float) -> None:
    # The path only: a query may hold a signed capability.
    logger.info(
        "request",
        method=scope["method"],
        path=_printable(scope["path"][:300]),
        status=status,
        milliseconds=round(seconds * 1000, 1),
    )


def _printable(text: str) -> str:
    """Text that cannot pass for another line, nor speak to the terminal that shows the log."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id") or headers.get("x-amzn-trace-id") or ""
    return given if _SANE.fullmatch(given) else uuid.uuid4().hex
