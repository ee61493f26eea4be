"""Which status, body and headers an error becomes: the only place that knows.

Hub clients read `X-Error-Code` and `X-Error-Message`; people with a browser get a page.
"""

import errno
import re
import shutil
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gatehouse.core.errors import (
    Conflict,
    Forbidden,
    GatehouseError,
    Invalid,
    Limited,
    NotBuilt,
    NotFound,
    PreconditionFailed,
    TimedOut,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from gatehouse.http.addresses import base_url
from gatehouse.http.context import Services, services_of
from gatehouse.observability.logging import logger
from gatehouse.repos.errors import RepoExists, RepoMoved, RepoNotFound

PageRenderer = Callable[[Request, int, str], Response]

_STATUS: tuple[tuple[type[GatehouseError], int], ...] = (
    (Unauthenticated, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (TimedOut, 408),
    (Conflict, 409),
    (PreconditionFailed, 412),
    (TooLarge, 413),
    (Limited, 429),
    (NotBuilt, 501),
    (Unavailable, 503),
    (Invalid, 400),
)
_MAX_HEADER = 500
DISK_FULL = "The disk of this hub is full. Please tell its administrator."
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_ROOM_BYTES = 1024 * 1024


def install(app: FastAPI, render_page: PageRenderer) -> None:
    """Make `app` answer errors.

    `render_page(request, status, message)` draws the page for browsers.
    """

    def answer(request: Request, status: int, message: str, headers: dict[str, str]) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            page = render_page(request, status, message)
            page.headers.update(headers)
            return page
        return JSONResponse({"error": message}, status, headers)

    def on_gatehouse_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, GatehouseError)
        if isinstance(error, RepoMoved):
            address = _moved_address(request, error)
            if address is not None:
                return RedirectResponse(address, 307)
            # The old name stood in the body: sending the same body again would not help.
            error = RepoNotFound(error.message)
        status = status_of(error)
        if isinstance(error, RepoExists):
            return JSONResponse(_exists(request, error), status, _headers(request, error, status))
        return answer(request, status, error.message, _headers(request, error, status))

    def on_validation_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        message = "; ".join(_validation_sentence(item) for item in error.errors()[:5])
        return answer(request, 400, message, {"X-Error-Message": header_safe(message)})

    def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = "There is nothing at this address." if error.status_code == 404 else error.detail
        return answer(request, error.status_code, message, dict(error.headers or {}))

    def on_unexpected(request: Request, error: Exception) -> Response:
        if isinstance(error, ClientDisconnect):
            # Nobody reads this, and nothing went wrong here: a line for each would flood the log.
            return Response(status_code=400)
        logger.error("request failed", path=request.url.path[:300], exc_info=error)
        if is_disk_full(services_of(request), error):
            return answer(request, 507, DISK_FULL, {"X-Error-Message": DISK_FULL})
        message = "Something went wrong on the server. The log has the details."
        return answer(request, 500, message, {})

    app.add_exception_handler(GatehouseError, on_gatehouse_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(Exception, on_unexpected)
    app.add_middleware(_LastResort, answer=on_unexpected)


class _LastResort:
    """Answers what nothing else caught.

    The framework would do so outside of all middleware, where the answer gets neither its request
    id nor the headers that let a page of another origin read it.
    """

    def __init__(self, app: ASGIApp, answer: Callable[[Request, Exception], Response]) -> None:
        self.app = app
        self.answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        has_started = False

        async def noting(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except Exception as error:
            if has_started:
                raise
            await self.answer(Request(scope), error)(scope, receive, send)


def is_disk_full(services: Services, error: Exception) -> bool:
    """Whether an error that nobody expected came of a full disk; libraries do not always say."""
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return True
    return shutil.disk_usage(services.settings.data_dir).free < _NO_ROOM_BYTES


def status_of(error: GatehouseError) -> int:
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def header_safe(text: str) -> str:
    """Text as it may stand in a header: one line of printable ASCII."""
    line = " ".join(text.split())[:_MAX_HEADER]
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in line)


def _headers(request: Request, error: GatehouseError, status: int) -> dict[str, str]:
    headers = {"X-Error-Message": header_safe(error.message)}
    if error.code:
        headers["X-Error-Code"] = error.code
    commit_oid = getattr(error, "commit_oid", None)
    if commit_oid:
        headers["X-Repo-Commit"] = commit_oid
    if status == 401:
        is_git = "service=git-" in request.url.query or ".git/" in request.url.path
        is_git = is_git or request.url.path.endswith(("/git-upload-pack", "/git-receive-pack"))
        headers["WWW-Authenticate"] = 'Basic realm="Gatehouse"' if is_git else "Bearer"
    if isinstance(error, Limited):
        headers["Retry-After"] = str(error.retry_after)
    return headers


def _exists(request: Request, error: RepoExists) -> dict[str, Any]:
    url = f"{base_url(request)}/{error.kind.url_prefix}{error.repo_id}"
    return {"error": error.message, "url": url, "name": str(error.repo_id)}


def _moved_address(request: Request, error: RepoMoved) -> str | None:
    """This address under the new name, or None if the old one is not in it.

    The redirect is a 307, which keeps method and body.
    """
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
    sent = raw.decode("ascii", "replace").partition("?")[0]
    namespace, name = map(_however_encoded, (error.old.namespace, error.old.name))
    moved, num_found = re.subn(f"/{namespace}/{name}(?![^./])", f"/{error.new}", sent, count=1)
    if not num_found:
        return None
    query = f"?{request.url.query}" if request.url.query else ""
    return f"{base_url(request)}{moved}{query}"


def _however_encoded(text: str) -> str:
    """A pattern for `text` in a raw path, where any letter may be percent-encoded."""
    return "".join(f"(?:{re.escape(c)}|(?i:%{ord(c):02x}))" for c in text)


def _validation_sentence(item: dict[str, Any]) -> str:
    place = ".".join(str(part) for part in item.get("loc", ()) if part not in ("body", "query"))
    return f"`{place or 'body'}`: {item.get('msg', 'is not valid')}"
