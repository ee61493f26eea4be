"""Clients that leave before their answer is whole: what is done for them ends."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
from starlette.types import Receive


@contextmanager
def until_the_client_leaves(receive: Receive) -> Iterator[None]:
    """Cancel the block when nobody is left to read its answer; the next statement runs then.

    A bare task, since most answers are there before anybody could leave: a task group takes three
    times as long. The request's body must have been read.
    """
    with anyio.CancelScope() as scope:

        def end(_: object) -> None:
            scope.cancel()

        watch = asyncio.ensure_future(_disconnected(receive))
        watch.add_done_callback(end)
        try:
            yield
        finally:
            watch.remove_done_callback(end)
            watch.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
