"""Sequences that lost their host: which are run again, and that one cannot take all hosts down."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

import anyio
import anyio.lowlevel
import pytest

from gatehouse.engines.base import SequenceOutput
from gatehouse.inference.errors import HostLost
from gatehouse.inference.lifecycle.second_tries import SecondTries

pytestmark = pytest.mark.anyio


@dataclass
class House:
    """Hosts that die of poison. All that run on a host are lost with it."""

    deaths: int = 0
    gone: anyio.Event = field(default_factory=anyio.Event)
    most_suspects: int = 0
    suspects: int = 0

    def attempt(self, *, is_poison: bool) -> Callable[[], AsyncGenerator[SequenceOutput]]:
        tries = 0

        async def run() -> AsyncGenerator[SequenceOutput]:
            nonlocal tries
            tries += 1
            if tries > 1:
                self.suspects += 1
                self.most_suspects = max(self.most_suspects, self.suspects)
            gone = self.gone
            try:
                for _ in range(5):
                    await anyio.lowlevel.checkpoint()
                if is_poison:
                    self.deaths += 1
                    self.gone = anyio.Event()
                    gone.set()
                if gone.is_set() or tries == 1:
                    raise HostLost
                yield SequenceOutput(1)
            finally:
                self.suspects -= tries > 1

        return run


async def collect(
    tries: SecondTries, attempt: Callable[[], AsyncGenerator[SequenceOutput]]
) -> int | None:
    try:
        async with aclosing(tries.outputs("model", attempt)) as outputs:
            return len([output async for output in outputs])
    except HostLost:
        return None


async def test_poison_takes_two_hosts_and_the_innocent_are_served() -> None:
    house, tries = House(), SecondTries()
    results: list[int | None] = []

    async def run(*, is_poison: bool) -> None:
        results.append(await collect(tries, house.attempt(is_poison=is_poison)))

    async with anyio.create_task_group() as tasks:
        for is_poison in (False, True, False, False):
            tasks.start_soon(partial(run, is_poison=is_poison))
    assert house.deaths == 2
    assert sorted(results, key=str) == [1, 1, 1, None]
    assert house.most_suspects == 1


async def test_what_has_begun_is_not_run_again() -> None:
    attempts = []

    async def attempt() -> AsyncGenerator[SequenceOutput]:
        attempts.append(1)
        yield SequenceOutput(1)
        raise HostLost

    assert await collect(SecondTries(), attempt) is None
    assert len(attempts) == 1


async def test_caller_that_leaves_in_its_turn_passes_it_on() -> None:
    tries = SecondTries()

    def hanging() -> Callable[[], AsyncGenerator[SequenceOutput]]:
        attempts = []

        async def run() -> AsyncGenerator[SequenceOutput]:
            attempts.append(1)
            if len(attempts) == 1:
                raise HostLost
            await anyio.sleep_forever()
            yield SequenceOutput(1)

        return run

    with anyio.move_on_after(0.05):
        await collect(tries, hanging())
    house = House()
    with anyio.fail_after(5):
        assert await collect(tries, house.attempt(is_poison=False)) == 1


async def test_turns_that_take_too_long_hold_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatehouse.inference.lifecycle.second_tries._LONGEST_TURN_SECONDS", 0.05)
    tries = SecondTries()
    attempts = []

    async def hanging() -> AsyncGenerator[SequenceOutput]:
        attempts.append(1)
        if len(attempts) == 1:
            raise HostLost
        await anyio.sleep_forever()
        yield SequenceOutput(1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collect, tries, hanging)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            assert await collect(tries, House().attempt(is_poison=False)) == 1
        tasks.cancel_scope.cancel()
