"""New answers on their way into the store, several at once, behind the back of those who wait.

Each write takes a thread, which holds up the event loop, so a few milliseconds' answers share one.
What is on its way can be found here meanwhile; a kill loses it, as if it had not been kept.
"""

from contextlib import AsyncExitStack
from dataclasses import dataclass

import anyio
from anyio.to_thread import run_sync

from gatehouse.inference.cache.answer_file import CachedAnswer
from gatehouse.inference.cache.answer_store import AnswerStore, NewAnswer

_GATHER_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class _OnItsWay:
    """`turn` is closed when the answer can be found in the store, or cannot be kept."""

    new: NewAnswer
    turn: AsyncExitStack


class WriteBehind:
    """Belongs to one event loop. Nothing is written unless `run` runs."""

    def __init__(self, store: AnswerStore) -> None:
        self._store = store
        self._waiting: dict[str, _OnItsWay] = {}
        self._in_writing: dict[str, _OnItsWay] = {}
        self._wanted = anyio.Event()

    def find(self, key: str) -> CachedAnswer | None:
        found = self._waiting.get(key) or self._in_writing.get(key)
        return None if found is None else found.new.answer

    def put(self, new: NewAnswer, turn: AsyncExitStack) -> None:
        """Have an answer written soon, and its turn closed then. The last one of a key counts."""
        replaced = self._waiting.get(new.key)
        if replaced is not None:
            turn.push_async_exit(replaced.turn)
        self._waiting[new.key] = _OnItsWay(new, turn)
        self._wanted.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wanted.wait()
            await anyio.sleep(_GATHER_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write all that is waiting."""
        if not self._waiting:
            return
        taken, self._waiting = self._waiting, {}
        self._in_writing = taken
        self._wanted = anyio.Event()
        with anyio.CancelScope(shield=True):
            try:
                await run_sync(self._store.keep_all, [one.new for one in taken.values()])
            finally:
                self._in_writing = {}
                for one in taken.values():
                    await one.turn.aclose()
