"""Several streams as one: order, errors, and an end that leaves nothing running."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from anyio.lowlevel import checkpoint

from gatehouse.core.errors import Invalid
from gatehouse.inference.merging import merged

pytestmark = pytest.mark.anyio


async def count(number: int, closed: list[int], *, fails_at: int = -1) -> AsyncGenerator[int]:
    try:
        for item in range(number):
            if item == fails_at:
                raise Invalid("broken")
            await checkpoint()
            yield item
    finally:
        closed.append(number)


async def drain(streams: list[AsyncGenerator[int]]) -> None:
    async with aclosing(merged(streams, 3)) as items:
        async for _ in items:
            pass


async def test_every_item_comes_in_the_order_of_its_stream() -> None:
    closed: list[int] = []
    found: dict[int, list[int]] = {0: [], 1: [], 2: []}
    async with aclosing(merged([count(n, closed) for n in (3, 0, 5)], 2)) as items:
        async for number, item in items:
            found[number].append(item)
    assert found == {0: [0, 1, 2], 1: [], 2: [0, 1, 2, 3, 4]}
    assert sorted(closed) == [0, 3, 5]


async def test_first_error_ends_all() -> None:
    closed: list[int] = []
    streams = [count(1000, closed), count(9, closed, fails_at=2), count(2000, closed)]
    with pytest.raises(Invalid, match="broken"):
        await drain(streams)
    assert sorted(closed) == [9, 1000, 2000]


async def test_closing_early_closes_every_stream_that_began() -> None:
    closed: list[int] = []
    async with aclosing(merged([count(n, closed) for n in (1000, 1001, 1002)], 2)) as items:
        async for _ in items:
            break
    assert sorted(closed) == [1000, 1001]


async def test_no_more_than_so_many_run_at_once() -> None:
    running, most = 0, 0

    async def watch() -> AsyncGenerator[int]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await checkpoint()
        yield 1
        running -= 1

    async with aclosing(merged([watch() for _ in range(9)], 3)) as items:
        assert len([item async for item in items]) == 9
    assert most == 3
