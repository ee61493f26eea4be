"""Answers kept for a while: the same request gives the same answer at once, sampled ones too.

In this worker's memory, bounded by bytes, count, age and by owner. It decides nothing about who may
ask: callers pass the gate before they come here, every time.
"""

import hashlib
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import anyio
import msgspec

_ENTRY_OVERHEAD_BYTES = 512
_OWNER_SHARE = 4
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
class CachedAnswer:
    """A whole answer. It holds nothing about who asked.

    Attributes:
        body: As it goes over the wire.
        num_characters: Of the input.
    """

    body: bytes
    num_characters: int
    num_prompt_tokens: int
    num_generated_tokens: int


@dataclass(frozen=True, slots=True)
class CacheScope:
    """What an answer depends on besides the request itself.

    Attributes:
        repository_id: The internal id: survives a change of name, is not given again.
        generation: Changes whenever the repository's readers may have changed.
        variant: The shape of the answer: the route and its defaults.
    """

    repository_id: int
    commit_oid: str
    generation: int
    task: str
    variant: str


@dataclass(slots=True)
class _Entry:
    answer: CachedAnswer
    owner: str
    stored_at: float

    @property
    def num_bytes(self) -> int:
        return len(self.answer.body) + _ENTRY_OVERHEAD_BYTES


@dataclass(eq=False)
class ResponseCache:
    """Least recently used answers go first; nobody's answers take more than a share of it.

    Args:
        max_bytes: Of all answers together.
        max_age_seconds: After which an answer is no longer given.
        max_entries: How many answers.
        clock: Seconds, only ever growing.
    """

    max_bytes: int
    max_age_seconds: float = 3600.0
    max_entries: int = 10_000
    clock: Callable[[], float] = anyio.current_time
    _entries: OrderedDict[str, _Entry] = field(default_factory=OrderedDict)
    _bytes_by_owner: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    _running: dict[str, anyio.Event] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        return sum(self._bytes_by_owner.values())

    def __len__(self) -> int:
        return len(self._entries)

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
                self._keep(key, owner, answer)
            return answer, CacheOutcome.BYPASS
        while True:
            kept = self._find(key)
            if kept is not None:
                return kept, CacheOutcome.HIT
            other = self._running.get(key)
            if other is None:
                break
            await other.wait()
        self._running[key] = done = anyio.Event()
        try:
            answer = await run()
            self._keep(key, owner, answer)
            return answer, CacheOutcome.MISS
        finally:
            del self._running[key]
            done.set()

    def _find(self, key: str) -> CachedAnswer | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if self.clock() - entry.stored_at > self.max_age_seconds:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry.answer

    def _keep(self, key: str, owner: str, answer: CachedAnswer) -> None:
        self._drop(key)
        entry = _Entry(answer, owner, self.clock())
        share = self.max_bytes // _OWNER_SHARE
        if entry.num_bytes > share:
            return
        self._entries[key] = entry
        self._bytes_by_owner[owner] += entry.num_bytes
        while self._bytes_by_owner[owner] > share:
            self._drop(next(k for k, kept in self._entries.items() if kept.owner == owner))
        while self.num_bytes > self.max_bytes or len(self._entries) > self.max_entries:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self._bytes_by_owner[entry.owner] -= entry.num_bytes
        if not self._bytes_by_owner[entry.owner]:
            del self._bytes_by_owner[entry.owner]


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
