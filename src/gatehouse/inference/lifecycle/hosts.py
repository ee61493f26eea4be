"""Model hosts, as a hub worker uses them: held for a while, and asked for tokens.

All requests of a worker share one connection to the supervisor and one to each host. Knows nothing
of repositories, plans or HTTP.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup

from gatehouse.engines.framing import FrameInvalid
from gatehouse.engines.messages import HostToWorker
from gatehouse.inference.errors import HostLost, SupervisorAbsent
from gatehouse.inference.lifecycle.channel import Channel
from gatehouse.inference.lifecycle.host_connection import HeldHost, HostChannel, HostConnection
from gatehouse.inference.lifecycle.local_socket import connect
from gatehouse.inference.lifecycle.messages import (
    NOBODY,
    Claim,
    Granted,
    Inquire,
    ModelSource,
    Pin,
    Report,
)
from gatehouse.inference.lifecycle.supervisor_link import SupervisorLink
from gatehouse.inference.lifecycle.wishes import Wish
from gatehouse.observability.metrics import Metrics, SequenceGauges

# Models whose last grant is remembered.
_MAX_GRANTS = 1_000


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
        self._granted: dict[str, Granted] = {}
        self._num_held: Counter[str] = Counter()
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
        wish = Wish(self._link, source, wait_seconds, may_load=may_load, claim=claim)
        self._num_held[claim.caller] += 1
        try:
            await wish.send()
            assumed = self._assumed(source, claim)
            if assumed is None:
                granted = await wish.granted()
                yield HeldHost(granted.description, await self._place(source, granted))
            else:
                ready = partial(self._confirmed, source, wish)
                yield HeldHost(assumed.description, self._hosts[assumed.socket_path], ready)
        finally:
            wish.give_up()
            self._num_held[claim.caller] -= 1
            if not self._num_held[claim.caller]:
                del self._num_held[claim.caller]

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

    def _assumed(self, source: ModelSource, claim: Claim) -> Granted | None:
        """Where the model was last, if it is there still, and the caller is well within limits.

        Nearly every wish is granted, and that host is asked while it is. Whoever has as much under
        way as they may have it waits for the grant, so that nobody's burst reaches the hosts.
        """
        granted = self._granted.get(source.key)
        if granted is None or granted.socket_path not in self._hosts:
            return None
        if claim.num_concurrent and self._num_held[claim.caller] > claim.num_concurrent:
            return None
        return granted

    async def _confirmed(self, source: ModelSource, wish: Wish) -> HostConnection:
        return await self._place(source, await wish.granted())

    async def _place(self, source: ModelSource, granted: Granted) -> HostConnection:
        if len(self._granted) >= _MAX_GRANTS:
            self._granted.clear()
        self._granted[source.key] = granted
        return await self._connection(granted.socket_path, source.name)

    async def _connection(self, path: str, model: str) -> HostConnection:
        connection = self._hosts.get(path)
        if connection is not None and connection.is_open:
            return connection
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
