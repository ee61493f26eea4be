"""The route class of every page: bounded forms in, the headers of a page out."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.core.errors import Invalid
from gatehouse.http.bodies import declared_length
from gatehouse.web.security import secure

MAX_FORM_BYTES = 256 * 1024

_Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class PageRoute(APIRoute):
    def get_route_handler(self) -> _Handler:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            _check_form_size(request)
            return secure(await handler(request))

        return handle


def page_router() -> APIRouter:
    """A router for pages, which are no part of the published API."""
    return APIRouter(route_class=PageRoute, include_in_schema=False)


def _check_form_size(request: Request) -> None:
    """Checked before the framework reads the form, which it would do without a bound."""
    if request.method != "POST":
        return
    if declared_length(request, MAX_FORM_BYTES) is None and "transfer-encoding" in request.headers:
        raise Invalid("Send the form with a `Content-Length`.")
