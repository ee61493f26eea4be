"""Answers kept for a while: the same request gives the same answer at once, sampled ones too.

Equal requests at the same time share one run, in whichever worker of the hub they came in. It
decides nothing about who may ask: callers pass the gate before they come here, every time.
"""

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import msgspec
from anyio.abc import TaskGroup
from anyio.to_thread import run_sync

from gatehouse.inference.cache.answer_file import CachedAnswer
from gatehouse.inference.cache.answer_reader import Undecided
from gatehouse.inference.cache.answer_store import AnswerStore, NewAnswer
from gatehouse.inference.cache.flight_locks import FlightLocks
from gatehouse.inference.cache.write_behind import WriteBehind

_encoder = msgspec.json.Encoder(order="deterministic")


class CacheUse(StrEnum):
    """What the caller asked of the cache."""

    READ = "read"
    REFRESH = "refresh"  # run again, and keep the new answer
    AVOID = "avoid"  # run again, and keep nothing


class CacheOutcome(StrEnum):
    """The value of the `x-cache` header."""

    HIT = "HIT"
    MISS = "MISS"
    BYPASS = "BYPASS"


@dataclass(frozen=True, slots=True)
class CacheScope:
    """What an answer depends on besides the request itself.

    Attributes:
        repository_id: The internal id: survives a change of name, is not given again.
        generation: Changes whenever the repository's readers may have changed.
        variant: The shape of the answer: the route and its defaults.
        runner: The software that gave it.
    """

    repository_id: int
    commit_oid: str
    generation: int
    task: str
    variant: str
    runner: str = ""


class ResponseCache:
    """The cache as one worker uses it, over a file and its locks.

    As a context manager it keeps new answers behind the back of those who wait for them.
    """

    def __init__(self, store: AnswerStore, locks: FlightLocks) -> None:
        self._store = store
        self._reader = store.reader()
        self._locks = locks
        self._running: dict[str, anyio.Event] = {}
        self._behind = WriteBehind(store)
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        tasks = anyio.create_task_group()
        await tasks.__aenter__()
        tasks.start_soon(self._behind.run)
        self._tasks = tasks
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._tasks is not None
        tasks, self._tasks = self._tasks, None
        tasks.cancel_scope.cancel()
        await tasks.__aexit__(kind, error, traceback)
        await self._behind.flush()

    async def get_or_run(
        self, key: str, owner: str, use: CacheUse, run: Callable[[], Awaitable[CachedAnswer]]
    ) -> tuple[CachedAnswer, CacheOutcome]:
        """The kept answer, or a new one from `run`, which equal requests at the same time share.

        `owner` is whose share a new answer counts against. Whatever `run` raises is raised to its
        own caller only; those who waited for it try themselves.
        """
        if use is not CacheUse.READ:
            answer = await run()
            if use is CacheUse.REFRESH:
                await self._keep(NewAnswer(key, owner, answer), AsyncExitStack())
            return answer, CacheOutcome.BYPASS
        while True:
            kept = await self._find(key)
            if kept is not None:
                return kept, CacheOutcome.HIT
            other = self._running.get(key)
            if other is None:
                return await self._run_first(key, owner, run)
            await other.wait()

    async def _run_first(
        self, key: str, owner: str, run: Callable[[], Awaitable[CachedAnswer]]
    ) -> tuple[CachedAnswer, CacheOutcome]:
        """Run for everybody in this worker, unless another worker just did."""
        self._running[key] = anyio.Event()
        try:
            async with AsyncExitStack() as turn:
                await turn.enter_async_context(self._locks.hold(key))
                kept = await self._find(key)
                if kept is not None:
                    return kept, CacheOutcome.HIT
                answer = await run()
                await self._keep(NewAnswer(key, owner, answer), turn.pop_all())
                return answer, CacheOutcome.MISS
        finally:
            self._running.pop(key).set()

    async def _find(self, key: str) -> CachedAnswer | None:
        found = self._behind.find(key)
        if found is not None:
            return found
        try:
            return self._reader.find(key)
        except Undecided:
            return await run_sync(self._store.find, key)

    async def _keep(self, new: NewAnswer, turn: AsyncExitStack) -> None:
        """Other workers' turn comes when the answer is in the store."""
        self._behind.put(new, turn)
        if self._tasks is None:
            await self._behind.flush()

    def count(self) -> tuple[int, int]:
        """How many answers there are, and their bytes. Blocking."""
        return self._store.count()

    def close(self) -> None:
        self._reader.close()
        self._store.close()
        self._locks.close()


def open_response_cache(folder: Path, max_bytes: int) -> ResponseCache:
    """The cache of a data folder. One a process: see `FlightLocks`."""
    return ResponseCache(
        AnswerStore(folder / "response_cache.db", max_bytes),
        FlightLocks(folder / "response_cache.locks"),
    )


def cache_key(scope: CacheScope, job: Any) -> str:
    """A key for everything that an answer depends on.

    `job` is the validated request, so bodies that mean the same have the same key: nulls, the order
    of keys, `1.0` against `1`. It must hold nothing about the caller.
    """
    return hashlib.sha256(_encoder.encode([scope, job])).hexdigest()


def cache_use(header: str | None, option: Any, cache_control: str | None) -> CacheUse:
    """What `x-use-cache`, the body's `options.use_cache` and `Cache-Control` come to.

    The header beats the body. Only `no-store` keeps the new answer out of the cache.
    """
    directives = {part.strip().lower() for part in (cache_control or "").split(",")}
    if "no-store" in directives:
        return CacheUse.AVOID
    is_wanted = option is not False and "no-cache" not in directives
    if header is not None:
        is_wanted = header.strip().lower() not in ("0", "false", "no", "off")
    return CacheUse.READ if is_wanted else CacheUse.REFRESH
