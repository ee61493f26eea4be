"""Model hosts, as a hub worker uses them: held for a while, and asked for tokens.

All requests of a worker share one connection to the supervisor and one to each host. Knows nothing
of repositories, plans or HTTP.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup

from gatehouse.engines.framing import FrameInvalid
from gatehouse.engines.messages import HostToWorker
from gatehouse.inference.errors import (
    HostLost,
    ModelLoading,
    ModelNotServable,
    ModelTimedOut,
    ModelTooLarge,
    SupervisorAbsent,
    TooManyAtOnce,
)
from gatehouse.inference.lifecycle.channel import Channel
from gatehouse.inference.lifecycle.host_connection import HeldHost, HostChannel, HostConnection
from gatehouse.inference.lifecycle.local_socket import connect
from gatehouse.inference.lifecycle.messages import (
    NOBODY,
    Acquire,
    Claim,
    Declined,
    DeclineReason,
    Granted,
    Inquire,
    ModelSource,
    Pin,
    Release,
    Report,
)
from gatehouse.inference.lifecycle.supervisor_link import Answer, SupervisorLink
from gatehouse.observability.metrics import Metrics, SequenceGauges

# Whoever waits this long asked for it, and is told that it took too long.
ASKED_TO_WAIT_SECONDS = 600.0
# The supervisor ends the wait, and may add a pause of up to a minute; this is for one that hangs.
_GRACE_SECONDS = 65.0


class ModelHosts:
    """`ModelProvider` of the models in this hub. An async context manager, closed for good.

    Args:
        supervisor_path: Its socket.
        gauges_of: Counts a model's sequences under way.
    """

    def __init__(
        self,
        supervisor_path: Path,
        gauges_of: Callable[[str], SequenceGauges] | None = None,
    ) -> None:
        self._link = SupervisorLink(supervisor_path)
        self._gauges_of = gauges_of or Metrics().sequences
        self._connecting = anyio.Lock()
        self._hosts: dict[str, HostConnection] = {}
        self._tasks: TaskGroup | None = None
        self._pinned: tuple[object, tuple[ModelSource, ...]] = (None, ())

    async def __aenter__(self) -> Self:
        tasks = anyio.create_task_group()
        await tasks.__aenter__()
        self._tasks = tasks
        self._link.open(tasks)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._tasks is not None
        self._link.close()
        tasks, self._tasks = self._tasks, None
        tasks.cancel_scope.cancel()
        await tasks.__aexit__(kind, error, traceback)

    @asynccontextmanager
    async def hold(
        self,
        source: ModelSource,
        wait_seconds: float,
        *,
        may_load: bool = True,
        claim: Claim = NOBODY,
    ) -> AsyncIterator[HeldHost]:
        """See `ModelProvider.hold`."""
        ticket = self._link.new_ticket()
        try:
            granted = await self._acquire(
                ticket, source, wait_seconds, may_load=may_load, claim=claim
            )
            connection = await self._connection(granted.socket_path, source.name)
            yield HeldHost(granted.description, connection)
        finally:
            with anyio.CancelScope(shield=True):
                await self._link.tell_if_connected(Release(ticket))

    async def pin(self, sources: Iterable[ModelSource]) -> None:
        """Have these models loaded always, and no others. Cheap if nothing has changed.

        Raises:
            SupervisorAbsent: Nobody can load anything.
        """
        wanted = tuple(sources)
        if self._pinned == (self._link.connection, wanted):
            return
        await self._link.tell(Pin(wanted))
        self._pinned = (self._link.connection, wanted)

    async def report(self) -> Report:
        """What is in memory.

        Raises:
            SupervisorAbsent: Nobody knows.
        """
        ticket = self._link.new_ticket()
        answer = await self._link.ask(ticket, Inquire(ticket))
        if not isinstance(answer, Report):
            raise SupervisorAbsent
        return answer

    async def _acquire(
        self,
        ticket: int,
        source: ModelSource,
        wait_seconds: float,
        *,
        may_load: bool,
        claim: Claim,
    ) -> Granted:
        """A grant. A supervisor that is started anew meanwhile is asked again."""
        end = anyio.current_time() + wait_seconds
        answer: Answer | None = None
        with anyio.move_on_after(wait_seconds + _GRACE_SECONDS):
            while answer is None:
                left = max(0.0, end - anyio.current_time())
                wish = Acquire(
                    ticket,
                    source,
                    may_load,
                    left,
                    claim.caller,
                    claim.num_concurrent,
                    claim.call_id,
                )
                answer = await self._link.ask(ticket, wish)
        if isinstance(answer, Granted):
            return answer
        if isinstance(answer, Declined):
            raise _refusal(source, answer, wait_seconds, claim)
        raise SupervisorAbsent

    async def _connection(self, path: str, model: str) -> HostConnection:
        async with self._connecting:
            if self._tasks is None:
                raise SupervisorAbsent
            connection = self._hosts.get(path)
            if connection is not None and connection.is_open:
                return connection
            try:
                stream = await connect(path)
            except OSError:
                raise HostLost from None
            channel: HostChannel = Channel(stream, HostToWorker)
            connection = HostConnection(channel, self._gauges_of(model))
            self._hosts[path] = connection
            self._tasks.start_soon(self._keep, path, connection)
            return connection

    async def _keep(self, path: str, connection: HostConnection) -> None:
        try:
            await connection.listen()
        except FrameInvalid:
            return  # a host that talks nonsense is as good as gone
        finally:
            if self._hosts.get(path) is connection:
                del self._hosts[path]


def _refusal(source: ModelSource, answer: Declined, wait_seconds: float, claim: Claim) -> Exception:
    """The error that a decline stands for."""
    if answer.reason is DeclineReason.TOO_LARGE:
        return ModelTooLarge(source.name, answer.needed_bytes, answer.budget_bytes)
    if answer.reason is DeclineReason.TOO_MANY:
        return TooManyAtOnce(claim.num_concurrent)
    if answer.reason is DeclineReason.NOT_SERVABLE:
        return ModelNotServable(f"{source.name} cannot be run: {answer.message}")
    if wait_seconds >= ASKED_TO_WAIT_SECONDS:
        return ModelTimedOut(source.name)
    return ModelLoading(source.name, answer.estimated_seconds)
