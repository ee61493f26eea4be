"""Leases of model hosts: who gets which, which is loaded, unloaded or loaded again.

Lives on one event loop, over whatever starts the hosts. Knows nothing of workers and sockets.
"""

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from gatehouse.engines.messages import ForkHost, HostFailed, HostReady
from gatehouse.engines.process import choose_num_threads
from gatehouse.inference.lifecycle.host_processes import HostEnded, HostProcesses, resident_bytes
from gatehouse.inference.lifecycle.load_rates import SHORTEST_SECONDS, LoadRates
from gatehouse.inference.lifecycle.messages import (
    Declined,
    DeclineReason,
    ModelSource,
    PlacedModel,
    Report,
)
from gatehouse.inference.lifecycle.placement import (
    Placement,
    Placements,
    load_limit_seconds,
    memory_limit_bytes,
    needed_bytes,
)
from gatehouse.inference.lifecycle.setbacks import Setbacks

# A wish that found no room is remembered for callers that do not wait but ask again.
_WISH_SECONDS = 10.0
_SHORT_COMMIT = 12

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Counts:
    loads: int = 0
    failed_loads: int = 0
    crashes: int = 0
    unloads: int = 0


@dataclass(eq=False)
class Leases:
    """See `SupervisorOptions` for the first four."""

    socket_path: str
    memory_budget_bytes: int
    idle_seconds: float
    num_cores: int
    clock: Callable[[], float] = anyio.current_time
    _hosts: HostProcesses | None = None
    _host_ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _rates: LoadRates = field(default_factory=LoadRates)
    _setbacks: Setbacks = field(default_factory=Setbacks)
    _counts: _Counts = field(default_factory=_Counts)
    _by_host: dict[int, Placement] = field(default_factory=dict)
    _pinned: dict[str, ModelSource] = field(default_factory=dict)
    _wishes: dict[str, tuple[ModelSource, float]] = field(default_factory=dict)
    _num_waiting: int = 0

    def __post_init__(self) -> None:
        self._places = Placements(self.memory_budget_bytes)
        self._changed = anyio.Event()

    def use(self, hosts: HostProcesses) -> None:
        self._hosts = hosts

    async def acquire(self, source: ModelSource) -> Placement | Declined:
        """A loaded model, held for the caller until `release`; waits for loading and for room.

        A host that dies while it loads is tried again for those who wait, until it has died so
        often that the model is refused.
        """
        self._num_waiting += 1
        try:
            while True:
                if (declined := self._refusal(source)) is not None:
                    return declined
                place = self._place(source)
                if place is None:
                    await self._wait_for_turn(source.key)
                elif (answer := await self._when_loaded(place)) is not None:
                    return answer
        finally:
            self._num_waiting -= 1

    def acquire_loaded(self, source: ModelSource) -> Placement | Declined:
        """The same, only if it is in memory now."""
        place = self._places.get(source.key)
        if place is not None and place.description is not None:
            place.num_leases += 1
            return place
        return self._refusal(source) or self.loading(source)

    def release(self, place: Placement) -> None:
        place.num_leases -= 1
        place.last_used = self.clock()
        self._grant_wishes()
        self._notify()

    def loading(self, source: ModelSource) -> Declined:
        """What somebody is told who does not wait for the model any longer."""
        now = self.clock()
        place = self._places.get(source.key)
        if place is not None:
            left = place.started_at + place.expected_seconds - now
        else:
            left = self._expected_seconds(source) + self._setbacks.not_before(source.key) - now
            left = max(left, self._expected_seconds(source))
        return Declined(
            0, DeclineReason.LOADING, estimated_seconds=max(SHORTEST_SECONDS, round(left, 1))
        )

    def wish(self, source: ModelSource) -> None:
        """Load the model when there is room, though nobody waits for it."""
        if self._places.get(source.key) is None:
            self._wishes[source.key] = (source, self.clock() + _WISH_SECONDS)

    def pin(self, sources: Iterable[ModelSource]) -> None:
        """Load these and keep them; what was pinned before goes as others do."""
        self._pinned = {source.key: source for source in sources}
        for place in self._places.all():
            place.is_pinned = place.source.key in self._pinned
        self._load_pinned()

    def look_after(self) -> None:
        """What has to be done once a second."""
        self.unload_idle()
        self.end_stuck()
        self._load_pinned()
        self._grant_wishes()

    def unload_idle(self) -> None:
        for place in self._places.idle_since(self.clock() - self.idle_seconds):
            self._unload(place)

    def end_stuck(self) -> None:
        """End hosts that have been loading for too long: a repository can ask for that."""
        for place in self._places.stuck_at(self.clock()):
            limit = load_limit_seconds(place.source)
            place.failure = f"Loading took longer than {limit:.0f} seconds."
            self._note_failure(place, place.failure)
            self._unload(place)

    def report(self) -> Report:
        return Report(
            ticket=0,
            models=tuple(_described(place) for place in self._places.all()),
            budget_bytes=self._places.budget_bytes,
            num_waiting=self._num_waiting,
            num_loads=self._counts.loads,
            num_failed_loads=self._counts.failed_loads,
            num_crashes=self._counts.crashes,
            num_unloads=self._counts.unloads,
        )

    def on_started(self, host_id: int, pid: int) -> None:
        place = self._by_host.get(host_id)
        if place is not None:
            place.pid = pid

    def on_ready(self, host_id: int, ready: HostReady) -> None:
        place = self._by_host.get(host_id)
        if place is None:
            return
        place.description = ready.description
        place.memory_bytes = max(place.memory_bytes, ready.memory_bytes)
        place.last_used = place.loaded_at = self.clock()
        seconds = place.loaded_at - place.started_at - place.startup_seconds
        self._rates.learn(place.source.weight_bytes, max(seconds, 0.0))
        self._setbacks.loaded(place.source.key)
        self._counts.loads += 1
        _log.info("Loaded %s.", place.source.name)
        self._notify()

    def on_failed(self, host_id: int, failed: HostFailed) -> None:
        place = self._by_host.get(host_id)
        if place is not None and place.failure is None:
            place.failure = failed.message
            self._note_failure(place, failed.message)

    def on_ended(self, ended: HostEnded) -> None:
        place = self._by_host.pop(ended.host_id, None)
        if place is None:
            return
        place.is_gone = True
        if self._places.remove(place) and place.failure is None:
            _log.warning("The host of %s ended with %s.", place.source.name, ended.status)
            if ended.is_its_fault:
                self._note_death(place)
        Path(place.socket_path).unlink(missing_ok=True)
        self._notify()

    def _refusal(self, source: ModelSource) -> Declined | None:
        """Why this model cannot be had, however long one waits."""
        needed, room = needed_bytes(source), self._places.largest_room(source.key)
        if needed > room:
            return Declined(0, DeclineReason.TOO_LARGE, needed_bytes=needed, budget_bytes=room)
        reason = self._setbacks.refusal(source.key, self.clock())
        if reason is not None:
            return Declined(0, DeclineReason.NOT_SERVABLE, reason)
        return None

    async def _when_loaded(self, place: Placement) -> Placement | Declined | None:
        """The place once its model is loaded, held; None if its host died before that."""
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

    async def _wait_for_turn(self, key: str) -> None:
        """Wait until something changes, or until the model may be tried again."""
        pause = self._setbacks.not_before(key) - self.clock()
        if pause <= 0:
            await self._changed.wait()
            return
        with anyio.move_on_after(pause):
            await self._changed.wait()

    def _place(self, source: ModelSource) -> Placement | None:
        """Where the model is or will be; None if there is no room now, or it has to wait."""
        place = self._places.get(source.key)
        if place is not None:
            return place
        if self.clock() < self._setbacks.not_before(source.key):
            return None
        given_up = self._places.room_for(needed_bytes(source))
        if given_up is None:
            return None
        for idle in given_up:
            self._unload(idle)
        return self._start(source)

    def _start(self, source: ModelSource) -> Placement:
        assert self._hosts is not None
        host_id = next(self._host_ids)
        path = Path(self.socket_path).with_name(f"host-{host_id}.sock")
        place = Placement(
            host_id,
            source,
            str(path),
            needed_bytes(source),
            started_at=self.clock(),
            expected_seconds=self._expected_seconds(source),
            startup_seconds=self._hosts.startup_seconds(),
            is_pinned=source.key in self._pinned,
        )
        self._places.add(place)
        self._by_host[host_id] = place
        self._wishes.pop(source.key, None)
        self._hosts.start(
            ForkHost(
                host_id,
                source.engine.value,
                source.folder,
                str(path),
                choose_num_threads(source.weight_bytes, self.num_cores),
                self.num_cores,
                memory_limit_bytes(source.weight_bytes),
                source.options,
            )
        )
        return place

    def _expected_seconds(self, source: ModelSource) -> float:
        assert self._hosts is not None
        return self._hosts.startup_seconds() + self._rates.expected_seconds(source.weight_bytes)

    def _unload(self, place: Placement) -> None:
        _log.info("Unloading %s.", place.source.name)
        self._counts.unloads += 1
        self._places.remove(place)
        assert self._hosts is not None
        self._hosts.end(place.host_id)

    def _load_pinned(self) -> None:
        for source in self._pinned.values():
            if self._places.get(source.key) is None and self._refusal(source) is None:
                self._place(source)

    def _grant_wishes(self) -> None:
        for source, until in list(self._wishes.values()):
            if self.clock() > until or self._place(source) is not None:
                self._wishes.pop(source.key, None)

    def _note_failure(self, place: Placement, reason: str) -> None:
        self._counts.failed_loads += 1
        self._setbacks.could_not_be_loaded(place.source.key, self.clock(), reason)

    def _note_death(self, place: Placement) -> None:
        self._counts.crashes += 1
        if place.description is None:
            self._setbacks.died_while_loading(place.source.key, self.clock())
        else:
            now = self.clock()
            self._setbacks.crashed(place.source.key, now, now - place.loaded_at)

    def _notify(self) -> None:
        """Wake everybody who waits for anything; each looks again for what it needs."""
        self._changed.set()
        self._changed = anyio.Event()


def _why_gone(place: Placement) -> Declined | None:
    if place.failure is None:
        return None
    return Declined(0, DeclineReason.NOT_SERVABLE, place.failure)


def _described(place: Placement) -> PlacedModel:
    return PlacedModel(
        name=place.source.name,
        version=place.source.commit_oid[:_SHORT_COMMIT],
        is_loaded=place.description is not None,
        is_pinned=place.is_pinned,
        num_leases=place.num_leases,
        reserved_bytes=place.memory_bytes,
        resident_bytes=resident_bytes(place.pid) if place.pid is not None else 0,
    )
