"""The response cache: what is shared, what is not, and how it stays small."""

import anyio
import anyio.lowlevel
import pytest

from gatehouse.inference.response_cache import (
    CachedAnswer,
    CacheOutcome,
    CacheScope,
    CacheUse,
    ResponseCache,
    cache_key,
    cache_use,
)

pytestmark = pytest.mark.anyio


def answer(text: str = "x", size: int = 1) -> CachedAnswer:
    return CachedAnswer(text.encode() * size, 1, 1, 1)


class Runs:
    """Gives a new answer at each run."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self) -> CachedAnswer:
        self.count += 1
        await anyio.lowlevel.checkpoint()
        return answer(f"answer {self.count}")


async def get(
    cache: ResponseCache, runs: Runs, use: CacheUse = CacheUse.READ, key: str = "key"
) -> tuple[bytes, CacheOutcome]:
    found, outcome = await cache.get_or_run(key, "someone", use, runs)
    return found.body, outcome


async def test_second_reading_is_a_hit_and_refresh_replaces_it() -> None:
    cache, runs = ResponseCache(10**6), Runs()
    assert await get(cache, runs) == (b"answer 1", CacheOutcome.MISS)
    assert await get(cache, runs) == (b"answer 1", CacheOutcome.HIT)
    assert await get(cache, runs, CacheUse.REFRESH) == (b"answer 2", CacheOutcome.BYPASS)
    assert await get(cache, runs) == (b"answer 2", CacheOutcome.HIT)
    assert await get(cache, runs, CacheUse.AVOID) == (b"answer 3", CacheOutcome.BYPASS)
    assert await get(cache, runs) == (b"answer 2", CacheOutcome.HIT)


async def test_equal_requests_at_once_are_one_run() -> None:
    cache, runs = ResponseCache(10**6), Runs()
    found = []

    async def read() -> None:
        found.append(await get(cache, runs))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(read)
    assert runs.count == 1
    assert {body for body, _ in found} == {b"answer 1"}


async def test_one_that_waits_runs_itself_when_the_first_leaves() -> None:
    cache, runs = ResponseCache(10**6), Runs()
    found = []

    async def hang() -> CachedAnswer:
        await anyio.sleep_forever()
        raise AssertionError

    async def read() -> None:
        found.append(await get(cache, runs))

    async with anyio.create_task_group() as tasks:
        with anyio.move_on_after(0.05):
            tasks.start_soon(read)
            await cache.get_or_run("key", "someone", CacheUse.READ, hang)
    assert found == [(b"answer 1", CacheOutcome.MISS)]


async def test_error_is_raised_and_not_kept() -> None:
    cache, runs = ResponseCache(10**6), Runs()

    async def fail() -> CachedAnswer:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await cache.get_or_run("key", "someone", CacheUse.READ, fail)
    assert await get(cache, runs) == (b"answer 1", CacheOutcome.MISS)


async def test_answers_grow_old() -> None:
    now = 0.0
    cache, runs = ResponseCache(10**6, max_age_seconds=10, clock=lambda: now), Runs()
    await get(cache, runs)
    now = 10.0
    assert (await get(cache, runs))[1] is CacheOutcome.HIT
    now = 10.5
    assert (await get(cache, runs))[1] is CacheOutcome.MISS
    assert len(cache) == 1


async def test_bytes_entries_and_owners_are_bounded() -> None:
    cache = ResponseCache(20_000, max_entries=6)

    async def fill(key: str, owner: str, size: int = 2000) -> None:
        async def run() -> CachedAnswer:
            return answer(size=size)

        await cache.get_or_run(key, owner, CacheUse.READ, run)

    await fill("theirs", "other")
    for number in range(20):
        await fill(f"{number}", "greedy")
    assert cache.num_bytes <= 20_000 // 4 + 2512
    assert (await get(cache, Runs(), key="theirs"))[1] is CacheOutcome.HIT
    await fill("huge", "greedy", 10_000)
    assert (await get(cache, Runs(), key="huge"))[1] is CacheOutcome.MISS
    for number in range(20):
        await fill(f"small {number}", f"owner {number}", 10)
    assert len(cache) == 6


def test_key_tells_apart_what_must_not_be_shared() -> None:
    scope = CacheScope(1, "aa", 0, "text-generation", "list")
    keys = {
        cache_key(changed, job)
        for changed, job in [
            (scope, {"inputs": "a"}),
            (scope, {"inputs": "b"}),
            (CacheScope(2, "aa", 0, "text-generation", "list"), {"inputs": "a"}),
            (CacheScope(1, "bb", 0, "text-generation", "list"), {"inputs": "a"}),
            (CacheScope(1, "aa", 1, "text-generation", "list"), {"inputs": "a"}),
            (CacheScope(1, "aa", 0, "text-generation", "object"), {"inputs": "a"}),
        ]
    }
    assert len(keys) == 6
    assert cache_key(scope, {"a": 1, "b": 2}) == cache_key(scope, {"b": 2, "a": 1})


@pytest.mark.parametrize(
    ("header", "option", "cache_control", "expected"),
    [
        (None, None, None, CacheUse.READ),
        ("0", None, None, CacheUse.REFRESH),
        ("False", True, None, CacheUse.REFRESH),
        ("no", None, None, CacheUse.REFRESH),
        ("OFF", None, None, CacheUse.REFRESH),
        ("1", False, None, CacheUse.READ),
        (None, False, None, CacheUse.REFRESH),
        (None, True, None, CacheUse.READ),
        (None, None, "no-cache", CacheUse.REFRESH),
        (None, None, "max-age=0, No-Store", CacheUse.AVOID),
    ],
)
def test_header_beats_body(
    header: str | None, option: bool | None, cache_control: str | None, expected: CacheUse
) -> None:
    assert cache_use(header, option, cache_control) is expected
