"""Give every request an id that its answer, its log lines and the client's error message share.

The outermost middleware: it sees how requests end, counts them and tells who asked to know.
"""

import re
import uuid
from time import perf_counter

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gatehouse.http.endings import Ending, expect_end, note_route
from gatehouse.observability.logging import logger
from gatehouse.observability.metrics import Metrics

_SERVER_ERROR = 500
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SANE = re.compile(r"[\w\-.:=/+]{1,128}", re.ASCII)


class RequestIdMiddleware:
    """Sets `X-Request-Id`, and logs failed requests, or all of them with `log_all`."""

    def __init__(self, app: ASGIApp, *, log_all: bool, metrics: Metrics) -> None:
        self.app = app
        self.log_all = log_all
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope))
        started = perf_counter()
        ending = expect_end(scope)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                ending.status = message["status"]
                MutableHeaders(scope=message).setdefault("X-Request-Id", request_id)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_id)
            finally:
                ending.seconds = perf_counter() - started
                note_route(scope)
                self._end(scope, ending)

    def _end(self, scope: Scope, ending: Ending) -> None:
        self.metrics.http_request(_method(scope), ending.route, ending.status, ending.seconds)
        for listener in ending.listeners:
            listener(ending)
        if self.log_all or ending.status >= _SERVER_ERROR:
            _log(scope, ending)


def _log(scope: Scope, ending: Ending) -> None:
    # The path only: a query may hold a signed capability.
    logger.info(
        "request",
        method=scope["method"],
        path=_printable(scope["path"][:300]),
        status=ending.status,
        milliseconds=round(ending.seconds * 1000, 1),
    )


def _method(scope: Scope) -> str:
    """The method, of which clients may make up any number."""
    method = str(scope["method"])
    return method if method in _METHODS else "(other)"


def _printable(text: str) -> str:
    """Text that cannot pass for another line, nor speak to the terminal that shows the log."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id") or headers.get("x-amzn-trace-id") or ""
    return given if _SANE.fullmatch(given) else uuid.uuid4().hex
