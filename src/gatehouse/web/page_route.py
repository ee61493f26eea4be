"""The route class of every page: bounded forms in, the headers of a page out."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.http.bounded_route import bounded
from gatehouse.web.security import secure

MAX_FORM_BYTES = 256 * 1024

_Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class PageRoute(APIRoute):
    def get_route_handler(self) -> _Handler:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            if request.method == "POST":
                request = await bounded(request, MAX_FORM_BYTES)
            return secure(await handler(request))

        return handle


def page_router() -> APIRouter:
    """A router for pages, which are no part of the published API."""
    return APIRouter(route_class=PageRoute, include_in_schema=False)
