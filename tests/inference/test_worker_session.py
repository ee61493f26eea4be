"""Tickets of a worker, over a channel that says what is written for it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast

import anyio
import pytest

from gatehouse.engines.base import ModelDescription
from gatehouse.engines.messages import ForkHost, HostReady
from gatehouse.inference.lifecycle.channel import Channel
from gatehouse.inference.lifecycle.leases import Leases
from gatehouse.inference.lifecycle.messages import (
    Acquire,
    Declined,
    Granted,
    ModelSource,
    Release,
    SupervisorToWorker,
    WorkerToSupervisor,
)
from gatehouse.inference.lifecycle.worker_session import Callers, WorkerSession

pytestmark = pytest.mark.anyio

SOURCE = ModelSource("a", "a", "/models/a", 1024)
DESCRIPTION = ModelDescription("echo", "None", 8, False, (), "none", "cpu", 0)


class SlowHosts:
    """Hosts that never get ready."""

    def start(self, order: ForkHost) -> None:
        pass

    def end(self, _host_id: int) -> None:
        pass

    def startup_seconds(self) -> float:
        return 0.0


class ReadyHosts:
    """Hosts that load in no time."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases

    def start(self, order: ForkHost) -> None:
        self._leases.on_ready(order.host_id, HostReady(DESCRIPTION, 0))

    def end(self, _host_id: int) -> None:
        pass

    def startup_seconds(self) -> float:
        return 0.0


@dataclass
class WrittenChannel:
    """Packets as they come, each with what the worker sent in one go.

    Attributes:
        num_leases: When all packets had been read, and the worker was still there.
    """

    leases: Leases
    packets: list[list[WorkerToSupervisor]]
    num_leases: int = 0
    sent: list[SupervisorToWorker] = field(default_factory=list)

    async def receive_all(self) -> AsyncIterator[WorkerToSupervisor]:
        for packet in self.packets:
            for message in packet:
                yield message
            await anyio.wait_all_tasks_blocked()
        self.num_leases = num_leases(self.leases)

    async def send(self, message: SupervisorToWorker) -> None:
        self.sent.append(message)

    async def __aenter__(self) -> "WrittenChannel":
        return self

    async def __aexit__(self, *_details: object) -> None:
        pass


@pytest.fixture
async def leases() -> Leases:
    leases = Leases("/nowhere/supervisor.sock", 2**40, 60.0, 2)
    leases.use(ReadyHosts(leases))
    return leases


async def serve(leases: Leases, written: WrittenChannel) -> None:
    channel = cast(Channel[SupervisorToWorker, WorkerToSupervisor], cast(Any, written))
    await WorkerSession(leases, channel, Callers()).serve()


def num_leases(leases: Leases) -> int:
    (model,) = leases.report().models
    return model.num_leases


async def test_wish_and_release_in_one_packet_leave_no_lease(leases: Leases) -> None:
    written = WrittenChannel(leases, [[Acquire(1, SOURCE)], [Acquire(2, SOURCE), Release(2)]])
    await serve(leases, written)
    assert [type(message) for message in written.sent] == [Granted]
    assert written.num_leases == 1


async def test_worker_that_goes_gives_everything_back(leases: Leases) -> None:
    written = WrittenChannel(leases, [[Acquire(1, SOURCE)], [Acquire(2, SOURCE)]])
    await serve(leases, written)
    assert [type(message) for message in written.sent] == [Granted, Granted]
    assert written.num_leases == 2
    assert num_leases(leases) == 0


@dataclass
class PatientChannel(WrittenChannel):
    """One that stays until everything is answered, a minute later."""

    is_all_answered: anyio.Event = field(default_factory=anyio.Event)

    async def receive_all(self) -> AsyncIterator[WorkerToSupervisor]:
        (messages,) = self.packets
        self.leases.clock = lambda: 0.0
        for message in messages:
            yield message
        await anyio.wait_all_tasks_blocked()
        self.leases.clock = lambda: 60.0
        await self.is_all_answered.wait()

    async def send(self, message: SupervisorToWorker) -> None:
        await super().send(message)
        if len(self.sent) == len(self.packets[0]):
            self.is_all_answered.set()


async def test_whoever_has_waited_for_a_model_does_not_wait_to_be_refused() -> None:
    """Refusals of one caller are a second apart, but the wait for the model counts."""
    leases = Leases("/nowhere/supervisor.sock", 2**40, 60.0, 2)
    leases.use(SlowHosts())
    wishes = [Acquire(ticket, SOURCE, wait_seconds=0.2, caller="ada") for ticket in range(60)]
    written = PatientChannel(leases, [list(wishes)])
    with anyio.fail_after(20):
        await serve(leases, written)
    assert {type(message) for message in written.sent} == {Declined}
