"""Hosts that are asked while their grant is under way; the supervisor says what is written."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import pytest

from gatehouse.engines.base import (
    GeneratedToken,
    GenerationRequest,
    ModelDescription,
    ScoredToken,
    SequenceOutput,
    TextPrompt,
    TokenizedPrompt,
)
from gatehouse.engines.messages import (
    Generate,
    Stepped,
    Tokenize,
    Tokenized,
    WorkerToHost,
)
from gatehouse.inference.errors import HostLost, TooManyAtOnce
from gatehouse.inference.lifecycle.channel import Channel
from gatehouse.inference.lifecycle.hosts import ModelHosts
from gatehouse.inference.lifecycle.local_socket import LocalSocket, serve
from gatehouse.inference.lifecycle.messages import (
    Acquire,
    Claim,
    Declined,
    DeclineReason,
    Granted,
    ModelSource,
    Release,
    WorkerToSupervisor,
)

pytestmark = pytest.mark.anyio

SOURCE = ModelSource("1:aa", "someone/tiny", "/nowhere", 1)
DESCRIPTION = ModelDescription("null", "N", 100, False, (2,), "float32", "cpu", 0)
REQUEST = GenerationRequest(prompt=TextPrompt("x"))
LONG = 30.0


@dataclass
class House:
    """A supervisor and hosts in one folder: they note what they hear, and answer when told to."""

    folder: Path
    wishes: list[Acquire] = field(default_factory=list)
    releases: list[int] = field(default_factory=list)
    heard: list[Any] = field(default_factory=list)
    _line: Any = None

    async def supervise(self, accepted: LocalSocket) -> None:
        channel: Channel[Any, WorkerToSupervisor] = Channel(accepted, WorkerToSupervisor)
        self._line = channel
        async for message in channel.receive_all():
            if isinstance(message, Acquire):
                self.wishes.append(message)
            elif isinstance(message, Release):
                self.releases.append(message.ticket)

    async def host(self, accepted: LocalSocket) -> None:
        """Gives each sequence one token, which is its last but for that nobody says so."""
        channel: Channel[Any, WorkerToHost] = Channel(accepted, WorkerToHost)
        token = GeneratedToken(ScoredToken(1, "t", None, special=False), "t")
        async for message in channel.receive_all():
            self.heard.append(message)
            if isinstance(message, Generate):
                await channel.send(Stepped((SequenceOutput(message.request_id, (token,)),)))
            elif isinstance(message, Tokenize):
                await channel.send(Tokenized(message.request_id, TokenizedPrompt((), "x")))

    async def grant(self, host: str = "one") -> None:
        path = str(self.folder / host)
        await self._line.send(Granted(self.wishes[-1].ticket, path, DESCRIPTION))

    async def decline(self, reason: DeclineReason) -> None:
        await self._line.send(Declined(self.wishes[-1].ticket, reason))

    def heard_kinds(self) -> list[str]:
        return [type(message).__name__ for message in self.heard]


@asynccontextmanager
async def known_model() -> AsyncIterator[tuple[ModelHosts, House]]:
    """Hosts that have held the model once, so that they know where it is."""
    with TemporaryDirectory(prefix="gh") as folder:
        house = House(Path(folder))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve, house.folder / "supervisor", house.supervise)
            for name in ("one", "two"):
                tasks.start_soon(serve, house.folder / name, house.host)
            await anyio.wait_all_tasks_blocked()
            async with ModelHosts(house.folder / "supervisor") as hosts:
                async with anyio.create_task_group() as first:
                    first.start_soon(hold_once, hosts)
                    await until(lambda: bool(house.wishes))
                    await house.grant()
                await until(lambda: bool(house.releases))
                assert house.releases == [house.wishes[0].ticket]
                house.heard.clear()
                with anyio.fail_after(10):
                    yield hosts, house
            tasks.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - bytes under way wake nobody here
            await anyio.sleep(0.002)


async def a_moment() -> None:
    """Long enough for what must not happen."""
    await anyio.sleep(0.05)


async def hold_once(hosts: ModelHosts) -> None:
    async with hosts.hold(SOURCE, LONG):
        pass


@dataclass
class Asked:
    """One request by way of `hosts`, running on its own."""

    hosts: ModelHosts
    claim: Claim = field(default_factory=Claim)
    pieces: list[str] = field(default_factory=list)
    error: Exception | None = None

    async def __call__(self) -> None:
        try:
            async with (
                self.hosts.hold(SOURCE, LONG, claim=self.claim) as model,
                aclosing(model.generate(REQUEST)) as outputs,
            ):
                async for output in outputs:
                    self.pieces += [token.piece for token in output.tokens]
        except (HostLost, TooManyAtOnce) as error:
            self.error = error


async def test_host_is_asked_at_once_and_answers_only_when_the_model_is_held() -> None:
    async with known_model() as (hosts, house), anyio.create_task_group() as tasks:
        asked = Asked(hosts)
        tasks.start_soon(asked)
        await until(lambda: house.heard_kinds() == ["Generate"])
        await a_moment()
        assert asked.pieces == []
        await house.grant()
        await until(lambda: asked.pieces == ["t"])
        tasks.cancel_scope.cancel()


async def test_refused_caller_gets_nothing_and_their_sequence_is_cancelled() -> None:
    async with known_model() as (hosts, house), anyio.create_task_group() as tasks:
        asked = Asked(hosts, Claim("user 1", 1, 7))
        tasks.start_soon(asked)
        await until(lambda: len(house.wishes) == 2)
        await house.decline(DeclineReason.TOO_MANY)
        await until(lambda: asked.error is not None)
        assert isinstance(asked.error, TooManyAtOnce)
        assert asked.pieces == []
        await until(lambda: house.heard_kinds() == ["Generate", "Cancel"])
        await until(lambda: house.releases[-1] == house.wishes[-1].ticket)


async def test_caller_with_as_much_as_they_may_have_waits_for_the_grant() -> None:
    async with known_model() as (hosts, house), anyio.create_task_group() as tasks:
        first, second = (Asked(hosts, Claim("user 1", 1, number)) for number in (1, 2))
        tasks.start_soon(first)
        await until(lambda: house.heard_kinds() == ["Generate"])
        tasks.start_soon(second)
        await until(lambda: len(house.wishes) == 3)
        await a_moment()
        assert house.heard_kinds() == ["Generate"]
        await house.decline(DeclineReason.TOO_MANY)
        await until(lambda: second.error is not None)
        assert isinstance(second.error, TooManyAtOnce)
        await a_moment()
        assert house.heard_kinds() == ["Generate"]
        tasks.cancel_scope.cancel()


async def test_model_that_was_loaded_anew_is_found_where_it_is() -> None:
    async with known_model() as (hosts, house), anyio.create_task_group() as tasks:
        asked = Asked(hosts)
        tasks.start_soon(asked)
        await until(lambda: len(house.wishes) == 2)
        await house.grant("two")
        await until(lambda: asked.error is not None)
        assert isinstance(asked.error, HostLost)
        assert asked.pieces == []
        await until(lambda: house.heard_kinds() == ["Generate", "Cancel"])
        texts: list[str] = []

        async def tokenize() -> None:
            async with hosts.hold(SOURCE, LONG) as model:
                texts.append((await model.tokenize(TextPrompt("x"))).text)

        tasks.start_soon(tokenize)
        await until(lambda: len(house.wishes) == 3)
        await a_moment()
        assert texts == []
        await house.grant("one")
        await until(lambda: texts == ["x"])
