"""One hub worker's conversation with the supervisor. When the worker goes, so do its leases."""

import logging
from collections.abc import Hashable
from dataclasses import dataclass, field

import anyio
import msgspec

from gatehouse.inference.lifecycle.callers import RefusalPace, UnderWay
from gatehouse.inference.lifecycle.channel import Channel
from gatehouse.inference.lifecycle.leases import Leases
from gatehouse.inference.lifecycle.messages import (
    Acquire,
    Declined,
    DeclineReason,
    Granted,
    Inquire,
    Pin,
    Release,
    SupervisorToWorker,
    WorkerToSupervisor,
)
from gatehouse.inference.lifecycle.placement import Placement

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Callers:
    """What is known about callers, shared by all sessions."""

    under_way: UnderWay = field(default_factory=UnderWay)
    pace: RefusalPace = field(default_factory=RefusalPace)


@dataclass(eq=False)
class WorkerSession:
    """Tickets of one worker: wishes that wait, and places that are held."""

    leases: Leases
    channel: Channel[SupervisorToWorker, WorkerToSupervisor]
    callers: Callers
    _held: dict[int, Placement] = field(default_factory=dict)
    _waiting: dict[int, anyio.CancelScope] = field(default_factory=dict)
    _counted: dict[int, tuple[str, Hashable]] = field(default_factory=dict)

    async def serve(self) -> None:
        try:
            async with self.channel, anyio.create_task_group() as tasks:
                async for message in self.channel.receive_all():
                    if isinstance(message, Acquire):
                        # Known before its task runs: the release may lie in the same packet.
                        self._waiting[message.ticket] = scope = anyio.CancelScope()
                        tasks.start_soon(self._acquire, message, scope)
                    elif isinstance(message, Release):
                        self._release(message)
                    elif isinstance(message, Pin):
                        self.leases.pin(message.sources)
                    else:
                        await self._report(message)
                tasks.cancel_scope.cancel()
        finally:
            for ticket in [*self._held, *self._counted]:
                self._let_go(ticket)

    async def _acquire(self, wish: Acquire, scope: anyio.CancelScope) -> None:
        with scope:
            try:
                answer = await self._answer_to(wish)
            finally:
                del self._waiting[wish.ticket]
                if scope.cancel_called:
                    self._let_go(wish.ticket)
            if scope.cancel_called and isinstance(answer, Placement):
                self.leases.release(answer)  # granted and given back in the same moment
                return
            await self._answer(wish.ticket, answer)

    async def _answer_to(self, wish: Acquire) -> Placement | Declined:
        asked_at = self.leases.clock()
        if not self._enter(wish):
            return Declined(0, DeclineReason.TOO_MANY)
        if not wish.may_load:
            answer = self.leases.acquire_loaded(wish.source)
            if isinstance(answer, Placement) or answer.reason is not DeclineReason.LOADING:
                return answer
        else:
            with anyio.move_on_after(wish.wait_seconds):
                return await self.leases.acquire(wish.source)
            self.leases.wish(wish.source)
        return await self._answer_slowly(wish, asked_at)

    async def _answer_slowly(self, wish: Acquire, asked_at: float) -> Placement | Declined:
        """The news that the model is loading, after the pause that this caller has to keep.

        What the caller has waited for the model is part of it.
        """
        if wish.caller:
            turn = asked_at + self.callers.pace.pause(wish.caller, wish.source.key, asked_at)
            pause = max(0.0, turn - self.leases.clock())
            with anyio.move_on_after(pause):
                if wish.may_load:
                    return await self.leases.acquire(wish.source)
                await anyio.sleep(pause)
        return self.leases.loading(wish.source)

    def _enter(self, wish: Acquire) -> bool:
        if not wish.caller or not wish.num_concurrent:
            return True
        call: Hashable = (id(self), wish.call_id) if wish.call_id else (id(self), "", wish.ticket)
        if not self.callers.under_way.enter(wish.caller, call, wish.num_concurrent):
            return False
        self._counted[wish.ticket] = (wish.caller, call)
        return True

    async def _answer(self, ticket: int, answer: Placement | Declined) -> None:
        message: SupervisorToWorker
        if isinstance(answer, Declined):
            self._let_go(ticket)
            message = msgspec.structs.replace(answer, ticket=ticket)
        else:
            assert answer.description is not None
            self._held[ticket] = answer
            message = Granted(ticket, answer.socket_path, answer.description)
        await self._send(message)

    async def _report(self, question: Inquire) -> None:
        report = self.leases.report()
        await self._send(msgspec.structs.replace(report, ticket=question.ticket))

    async def _send(self, message: SupervisorToWorker) -> None:
        try:
            await self.channel.send(message)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            _log.info("A worker has gone before it was answered.")

    def _release(self, message: Release) -> None:
        waiting = self._waiting.get(message.ticket)
        if waiting is not None:
            waiting.cancel()
        self._let_go(message.ticket)

    def _let_go(self, ticket: int) -> None:
        held = self._held.pop(ticket, None)
        if held is not None:
            self.leases.release(held)
        counted = self._counted.pop(ticket, None)
        if counted is not None:
            self.callers.under_way.leave(*counted)
