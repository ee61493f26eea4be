"""What comes for one reader, who takes all that is there at once."""

import asyncio
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """A queue without bounds, for one task that reads.

    Every token of every stream passes through one, which is why it is not a memory object stream of
    anyio's: that takes three times as long for an item, and has no way to take several. Nor does it
    hold an event: each of those takes a kilobyte, also while nothing happens.
    """

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._news: asyncio.Future[None] | None = None
        self._is_closed = False

    def put(self, item: Item) -> None:
        self._items.append(item)
        self._wake()

    def close(self) -> None:
        """Say that nothing will come any more."""
        self._is_closed = True
        self._wake()

    async def take(self) -> list[Item]:
        """All that came, in order, after waiting for something; empty when nothing will come."""
        while not self._items and not self._is_closed:
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        taken, self._items = self._items, []
        return taken

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
