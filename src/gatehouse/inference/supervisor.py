"""The supervisor: one process that decides which models are in memory, for all hub workers.

A model is loaded once however many ask for it; idle ones go, least recently used first, when
another needs the room, and after a while anyway. It never imports torch. It ends when its standard
input is closed, which the hub that started it holds open. Run as `python -m
gatehouse.inference.supervisor OPTIONS`, where OPTIONS is `SupervisorOptions` as JSON.
"""

import itertools
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import msgspec
from anyio.abc import SocketStream

from gatehouse.engines.messages import ForkHost, HostFailed, HostReady
from gatehouse.engines.process import choose_num_threads
from gatehouse.inference.channel import Channel
from gatehouse.inference.host_processes import ForkedHosts, HostEnded, HostProcesses
from gatehouse.inference.messages import (
    Acquire,
    Declined,
    DeclineReason,
    Granted,
    ModelSource,
    Release,
    SupervisorToWorker,
    WorkerToSupervisor,
)
from gatehouse.inference.placement import (
    Placement,
    Placements,
    load_limit_seconds,
    memory_limit_bytes,
    needed_bytes,
)

_IDLE_CHECK_SECONDS = 1.0

_log = logging.getLogger(__name__)


class SupervisorOptions(msgspec.Struct, frozen=True):
    """What the supervisor is told.

    Attributes:
        socket_path: Where it listens; hosts' sockets are made in the same folder.
        memory_budget_bytes: What all loaded models together may take.
        idle_seconds: A model that nobody used for so long is unloaded.
        num_cores: Cores of the machine.
    """

    socket_path: str
    memory_budget_bytes: int
    idle_seconds: float
    num_cores: int


@dataclass(eq=False)
class Supervisor:
    """Leases of hosts, over whatever starts them. Lives on one event loop."""

    options: SupervisorOptions
    clock: Callable[[], float] = anyio.current_time
    _hosts: HostProcesses | None = None
    _host_ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self._places = Placements(self.options.memory_budget_bytes)
        self._by_host: dict[int, Placement] = {}
        self._changed = anyio.Event()

    def use(self, hosts: HostProcesses) -> None:
        self._hosts = hosts

    async def acquire(self, source: ModelSource) -> Placement | Declined:
        """A loaded model, held for the caller until `release`; waits for loading and for room."""
        needed = needed_bytes(source.weight_bytes)
        if not self._places.can_ever_fit(needed):
            budget = self._places.budget_bytes
            return Declined(0, DeclineReason.TOO_LARGE, "", needed, budget)
        while (place := self._place(source, needed)) is None:
            await self._changed.wait()
        # Held while it loads, so that nobody's wish for room can end it.
        place.num_leases += 1
        try:
            while place.description is None:
                if place.is_gone:
                    place.num_leases -= 1
                    return _why_gone(place)
                await self._changed.wait()
        except BaseException:
            self.release(place)
            raise
        return place

    def acquire_loaded(self, source: ModelSource) -> Placement | Declined:
        """The same, only if it is in memory now."""
        place = self._places.get(source.key)
        if place is None or place.description is None:
            return Declined(0, DeclineReason.NOT_LOADED)
        place.num_leases += 1
        return place

    def release(self, place: Placement) -> None:
        place.num_leases -= 1
        place.last_used = self.clock()
        self._notify()

    def unload_idle(self) -> None:
        for place in self._places.idle_since(self.clock() - self.options.idle_seconds):
            self._give_up(place)

    def end_stuck(self) -> None:
        """End hosts that have been loading for too long: a repository can ask for that."""
        for place in self._places.stuck_at(self.clock()):
            limit = load_limit_seconds(place.source.weight_bytes)
            place.failure = f"Loading took longer than {limit:.0f} seconds."
            self._give_up(place)

    def on_ready(self, host_id: int, ready: HostReady) -> None:
        place = self._by_host.get(host_id)
        if place is not None:
            place.description = ready.description
            place.memory_bytes = max(place.memory_bytes, ready.memory_bytes)
            place.last_used = self.clock()
            _log.info("Loaded %s.", place.source.name)
            self._notify()

    def on_failed(self, host_id: int, failed: HostFailed) -> None:
        place = self._by_host.get(host_id)
        if place is not None:
            place.failure = failed.message

    def on_ended(self, ended: HostEnded) -> None:
        place = self._by_host.pop(ended.host_id, None)
        if place is None:
            return
        place.is_gone = True
        if self._places.remove(place):
            _log.warning("The host of %s ended with %s.", place.source.name, ended.status)
        Path(place.socket_path).unlink(missing_ok=True)
        self._notify()

    def _place(self, source: ModelSource, needed: int) -> Placement | None:
        """Where the model is or will be; None if there is no room now."""
        place = self._places.get(source.key)
        if place is not None:
            return place
        given_up = self._places.room_for(needed)
        if given_up is None:
            return None
        for idle in given_up:
            self._give_up(idle)
        return self._start(source, needed)

    def _start(self, source: ModelSource, needed: int) -> Placement:
        host_id = next(self._host_ids)
        path = Path(self.options.socket_path).with_name(f"host-{host_id}.sock")
        place = Placement(host_id, source, str(path), needed, started_at=self.clock())
        self._places.add(place)
        self._by_host[host_id] = place
        num_threads = choose_num_threads(source.weight_bytes, self.options.num_cores)
        assert self._hosts is not None
        self._hosts.start(
            ForkHost(
                host_id,
                source.engine.value,
                source.folder,
                str(path),
                num_threads,
                memory_limit_bytes(source.weight_bytes),
            )
        )
        return place

    def _give_up(self, place: Placement) -> None:
        _log.info("Unloading %s.", place.source.name)
        self._places.remove(place)
        assert self._hosts is not None
        self._hosts.end(place.host_id)

    def _notify(self) -> None:
        """Wake everybody who waits for anything; each looks again for what it needs."""
        self._changed.set()
        self._changed = anyio.Event()


def _why_gone(place: Placement) -> Declined:
    if place.failure is None:
        return Declined(0, DeclineReason.LOST)
    return Declined(0, DeclineReason.NOT_SERVABLE, place.failure)


@dataclass(eq=False)
class WorkerSession:
    """One hub worker's tickets. When the worker goes, so do they."""

    supervisor: Supervisor
    channel: Channel[SupervisorToWorker, WorkerToSupervisor]
    _held: dict[int, Placement] = field(default_factory=dict)
    _waiting: dict[int, anyio.CancelScope] = field(default_factory=dict)

    async def serve(self) -> None:
        try:
            async with self.channel, anyio.create_task_group() as tasks:
                async for message in self.channel.receive_all():
                    if isinstance(message, Acquire):
                        tasks.start_soon(self._acquire, message)
                    else:
                        self._release(message)
                tasks.cancel_scope.cancel()
        finally:
            for place in self._held.values():
                self.supervisor.release(place)

    async def _acquire(self, wish: Acquire) -> None:
        with anyio.CancelScope() as scope:
            self._waiting[wish.ticket] = scope
            try:
                if wish.may_load:
                    answer = await self.supervisor.acquire(wish.source)
                else:
                    answer = self.supervisor.acquire_loaded(wish.source)
            finally:
                del self._waiting[wish.ticket]
            if scope.cancel_called and isinstance(answer, Placement):
                self.supervisor.release(answer)  # granted and given back in the same moment
                return
            await self._answer(wish.ticket, answer)

    async def _answer(self, ticket: int, answer: Placement | Declined) -> None:
        message: SupervisorToWorker
        if isinstance(answer, Declined):
            message = msgspec.structs.replace(answer, ticket=ticket)
        else:
            assert answer.description is not None
            self._held[ticket] = answer
            message = Granted(ticket, answer.socket_path, answer.description)
        try:
            await self.channel.send(message)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            _log.info("A worker has gone while its model was loading.")

    def _release(self, message: Release) -> None:
        waiting = self._waiting.get(message.ticket)
        if waiting is not None:
            waiting.cancel()
        held = self._held.pop(message.ticket, None)
        if held is not None:
            self.supervisor.release(held)


async def serve(options: SupervisorOptions) -> None:
    """Listen for hub workers until cancelled."""
    supervisor = Supervisor(options)

    async def serve_worker(stream: SocketStream) -> None:
        try:
            await WorkerSession(supervisor, Channel(stream, WorkerToSupervisor)).serve()
        except* Exception:  # noqa: BLE001 - outermost: one worker's trouble is not the others'
            _log.exception("A worker's session broke.")

    async with anyio.create_task_group() as tasks:
        hosts = ForkedHosts(tasks, supervisor)
        supervisor.use(hosts)
        tasks.start_soon(hosts.run)
        tasks.start_soon(_look_after, supervisor)
        async with await anyio.create_unix_listener(options.socket_path, mode=0o600) as listener:
            await listener.serve(serve_worker)


async def _look_after(supervisor: Supervisor) -> None:
    while True:
        await anyio.sleep(_IDLE_CHECK_SECONDS)
        supervisor.unload_idle()
        supervisor.end_stuck()


def run_supervisor(options: SupervisorOptions) -> None:
    """Serve until standard input is closed. Blocks; for a process of its own."""

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve, options)
            await anyio.wait_readable(sys.stdin.fileno())
            tasks.cancel_scope.cancel()

    anyio.run(main)


def main() -> None:
    # Ctrl-C goes to every process of a terminal; the hub decides when we end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run_supervisor(msgspec.json.decode(sys.argv[1], type=SupervisorOptions))


if __name__ == "__main__":
    main()
