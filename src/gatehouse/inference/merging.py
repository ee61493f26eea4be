"""Several streams as one, in the order in which their items come."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from gatehouse.core.errors import GatehouseError

Item = TypeVar("Item")


async def merged(
    streams: Sequence[AsyncGenerator[Item]], at_once: int
) -> AsyncGenerator[tuple[int, Item]]:
    """Items with the number of the stream they came from. Use with `contextlib.aclosing`.

    At most `at_once` streams run at a time, and each waits until its item is taken. The first error
    ends all of them; so does closing.
    """
    send, receive = anyio.create_memory_object_stream[tuple[int, Item | GatehouseError]](0)
    limiter = anyio.CapacityLimiter(at_once)
    error: GatehouseError | None = None
    try:
        async with anyio.create_task_group() as tasks:
            for number, stream in enumerate(streams):
                tasks.start_soon(_forward, number, stream, send.clone(), limiter)
            send.close()
            try:
                async for number, item in receive:
                    if isinstance(item, GatehouseError):
                        error = item
                        break
                    yield number, item
            except GeneratorExit:
                # Not to be seen by the task group, which would wrap it.
                tasks.cancel_scope.cancel()
                return
            tasks.cancel_scope.cancel()
    finally:
        receive.close()
    if error is not None:
        raise error


async def _forward(
    number: int,
    stream: AsyncGenerator[Item],
    send: MemoryObjectSendStream[tuple[int, Item | GatehouseError]],
    limiter: anyio.CapacityLimiter,
) -> None:
    async with send, limiter, aclosing(stream) as items:
        try:
            async for item in items:
                await send.send((number, item))
        except GatehouseError as error:
            await send.send((number, error))
