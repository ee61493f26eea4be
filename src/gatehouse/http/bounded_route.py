"""The route class of the API: a JSON body is bounded before the framework reads it into memory.

By what arrives, not by what is announced: HTTP/2 knows bodies without any length.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive

from gatehouse.http.bodies import read_body

# A thousand announced files with their first bytes, or a card of 4 MiB, fit well.
MAX_JSON_BYTES = 16 * 1024 * 1024

_Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class BoundedRoute(APIRoute):
    """For routes that take a body model. Routes that stream the body themselves are left alone."""

    def get_route_handler(self) -> _Handler:
        handler = super().get_route_handler()
        if self.body_field is None:
            return handler

        async def handle(request: Request) -> Response:
            return await handler(await bounded(request, MAX_JSON_BYTES))

        return handle


async def bounded(request: Request, limit: int) -> Request:
    """The same request, with its body read already.

    Raises:
        TooLarge: The body has more than `limit` bytes.
    """
    body = await read_body(request, limit)
    return Request(request.scope, _replay(body, request.receive))


def _replay(body: bytes, receive: Receive) -> Receive:
    """A channel that gives `body` once, and then whatever the real one has to say."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replaying() -> Message:
        return messages.pop() if messages else await receive()

    return replaying
