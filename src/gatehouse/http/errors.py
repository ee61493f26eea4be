"""Which status, body and headers an error becomes: the only place that knows.

Hub clients read `X-Error-Code` and `X-Error-Message`; people with a browser get a page.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from gatehouse.core.errors import (
    Conflict,
    Forbidden,
    GatehouseError,
    Invalid,
    Limited,
    NotBuilt,
    NotFound,
    PreconditionFailed,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from gatehouse.http.addresses import base_url
from gatehouse.observability.logging import logger
from gatehouse.repos.errors import RepoExists, RepoMoved

PageRenderer = Callable[[Request, int, str], Response]

_STATUS: tuple[tuple[type[GatehouseError], int], ...] = (
    (Unauthenticated, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (PreconditionFailed, 412),
    (TooLarge, 413),
    (Limited, 429),
    (NotBuilt, 501),
    (Unavailable, 503),
    (Invalid, 400),
)
_MAX_HEADER = 500


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
            return _redirect(request, error)
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
        logger.error("request failed", path=request.url.path, exc_info=error)
        message = "Something went wrong on the server. The log has the details."
        return answer(request, 500, message, {})

    app.add_exception_handler(GatehouseError, on_gatehouse_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(Exception, on_unexpected)


def status_of(error: GatehouseError) -> int:
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def header_safe(text: str) -> str:
    """Text as it may stand in a header: one line of ASCII."""
    return " ".join(text.split()).encode("ascii", "replace").decode()[:_MAX_HEADER]


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


def _redirect(request: Request, error: RepoMoved) -> Response:
    """The same address under the new name. 307 keeps method and body."""
    path = request.scope.get("raw_path") or quote(request.url.path).encode()
    text = path.decode("ascii", "replace").partition("?")[0]
    moved = text.replace(f"/{error.old}", f"/{error.new}", 1)
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"{base_url(request)}{moved}{query}", 307)


def _validation_sentence(item: dict[str, Any]) -> str:
    place = ".".join(str(part) for part in item.get("loc", ()) if part not in ("body", "query"))
    return f"`{place or 'body'}`: {item.get('msg', 'is not valid')}"
