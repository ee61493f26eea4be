"""Model hosts, as a hub worker uses them: held for a while, and asked for tokens.

All requests of a worker share one connection to the supervisor and one to each host. Knows nothing
of repositories, plans or HTTP.
"""

import itertools
import math
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from gatehouse.engines.base import (
    GenerationRequest,
    ModelDescription,
    Prompt,
    RefusalKind,
    SequenceOutput,
    TokenizedPrompt,
)
from gatehouse.engines.framing import FrameInvalid
from gatehouse.engines.messages import (
    Cancel,
    Generate,
    HostToWorker,
    Refused,
    Stepped,
    Tokenize,
    Tokenized,
    WorkerToHost,
)
from gatehouse.inference.channel import Channel
from gatehouse.inference.errors import (
    GenerationFailed,
    GenerationRefused,
    HostLost,
    ModelLoading,
    ModelNotServable,
    ModelOverloaded,
    ModelTooLarge,
    SupervisorAbsent,
)
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

# A hub that has just started may be faster than its supervisor.
_CONNECT_SECONDS = 5.0
_CONNECT_PAUSE_SECONDS = 0.05
# For the guess that clients of a loading model are told: a fixed part, and bytes read per second.
_LOAD_SECONDS = 2.0
_LOAD_BYTES_PER_SECOND = 300e6


_Part = SequenceOutput | Tokenized | Refused


@dataclass(eq=False)
class HostConnection:
    """One host's socket, shared by all of this worker's sequences."""

    channel: Channel[WorkerToHost, HostToWorker]
    is_open: bool = True
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _waiting: dict[int, MemoryObjectSendStream[_Part]] = field(default_factory=dict)

    async def listen(self) -> None:
        """Hand incoming tokens to those who wait for them, until the host goes."""
        try:
            async with self.channel:
                async for message in self.channel.receive_all():
                    parts = message.outputs if isinstance(message, Stepped) else (message,)
                    for part in parts:
                        waiting = self._waiting.get(part.request_id)
                        if waiting is not None:
                            waiting.send_nowait(part)
        finally:
            self.is_open = False
            for waiting in self._waiting.values():
                waiting.close()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[SequenceOutput]:
        """One sequence's outputs. Closing the generator early cancels the sequence.

        Raises:
            GenerationRefused: The model cannot take this request.
            ModelOverloaded: Too many are waiting.
            GenerationFailed: It broke midway.
            HostLost: The host has gone.
        """
        number = next(self._numbers)
        is_over = False
        with self._expecting(number) as parts:
            try:
                await self._send(Generate(number, request))
                async for part in parts:
                    assert not isinstance(part, Tokenized)
                    is_over = isinstance(part, Refused) or part.is_last
                    yield _checked(part)
                    if is_over:
                        return
                is_over = True
                raise HostLost
            finally:
                if not is_over and self.is_open:
                    with anyio.CancelScope(shield=True):
                        await self._send_or_ignore(Cancel(number))

    async def tokenize(self, prompt: Prompt) -> TokenizedPrompt:
        """See `HeldModel.tokenize`."""
        number = next(self._numbers)
        with self._expecting(number) as parts:
            await self._send(Tokenize(number, prompt))
            async for part in parts:
                if isinstance(part, Tokenized):
                    return part.prompt
                _checked(part)
        raise HostLost

    @contextmanager
    def _expecting(self, number: int) -> Iterator[MemoryObjectReceiveStream[_Part]]:
        """What the host says about one request; ends when the host goes."""
        send, receive = anyio.create_memory_object_stream[_Part](math.inf)
        self._waiting[number] = send
        try:
            yield receive
        finally:
            del self._waiting[number]
            send.close()
            receive.close()

    async def _send(self, message: WorkerToHost) -> None:
        if not self.is_open:
            raise HostLost
        try:
            await self.channel.send(message)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise HostLost from None

    async def _send_or_ignore(self, message: WorkerToHost) -> None:
        try:
            await self._send(message)
        except HostLost:
            return


@dataclass(frozen=True, slots=True)
class HeldHost:
    """`HeldModel` on a host of ours."""

    description: ModelDescription
    connection: HostConnection

    def generate(self, request: GenerationRequest) -> AsyncGenerator[SequenceOutput]:
        """See `HostConnection.generate`."""
        return self.connection.generate(request)

    async def tokenize(self, prompt: Prompt) -> TokenizedPrompt:
        return await self.connection.tokenize(prompt)


@dataclass(eq=False)
class _Ticket:
    is_answered: anyio.Event = field(default_factory=anyio.Event)
    answer: Granted | Declined | None = None


class ModelHosts:
    """`ModelProvider` of the models in this hub. An async context manager, closed for good."""

    def __init__(self, supervisor_path: Path) -> None:
        self._supervisor_path = supervisor_path
        self._connecting = anyio.Lock()
        self._supervisor: Channel[WorkerToSupervisor, SupervisorToWorker] | None = None
        self._hosts: dict[str, HostConnection] = {}
        self._numbers = itertools.count(1)
        self._tickets: dict[int, _Ticket] = {}
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        tasks = anyio.create_task_group()
        await tasks.__aenter__()
        self._tasks = tasks
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._tasks is not None
        tasks, self._tasks = self._tasks, None
        tasks.cancel_scope.cancel()
        await tasks.__aexit__(kind, error, traceback)

    @asynccontextmanager
    async def hold(
        self, source: ModelSource, wait_seconds: float, *, may_load: bool = True
    ) -> AsyncIterator[HeldHost]:
        """See `ModelProvider.hold`."""
        number = next(self._numbers)
        granted = await self._acquire(number, source, wait_seconds, may_load=may_load)
        try:
            connection = await self._connection(granted.socket_path)
            yield HeldHost(granted.description, connection)
        finally:
            with anyio.CancelScope(shield=True):
                await self._release(number)

    async def _acquire(
        self, number: int, source: ModelSource, wait_seconds: float, *, may_load: bool
    ) -> Granted:
        supervisor = await self._connect_supervisor()
        ticket = self._tickets[number] = _Ticket()
        try:
            try:
                await supervisor.send(Acquire(number, source, may_load))
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                raise SupervisorAbsent from None
            with anyio.move_on_after(wait_seconds):
                await ticket.is_answered.wait()
            return _granted(source, ticket)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._release(number)
            raise
        finally:
            del self._tickets[number]

    async def _release(self, number: int) -> None:
        if self._supervisor is None:
            return
        try:
            await self._supervisor.send(Release(number))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return  # it has forgotten us anyway

    async def _connect_supervisor(self) -> Channel[WorkerToSupervisor, SupervisorToWorker]:
        async with self._connecting:
            if self._tasks is None:
                raise SupervisorAbsent
            if self._supervisor is None:
                stream = await self._patiently_connect()
                self._supervisor = Channel(stream, SupervisorToWorker)
                self._tasks.start_soon(self._listen_to_supervisor, self._supervisor)
            return self._supervisor

    async def _patiently_connect(self) -> anyio.abc.UNIXSocketStream:
        deadline = anyio.current_time() + _CONNECT_SECONDS
        while True:
            try:
                return await anyio.connect_unix(self._supervisor_path)
            except OSError:
                if anyio.current_time() >= deadline:
                    raise SupervisorAbsent from None
            await anyio.sleep(_CONNECT_PAUSE_SECONDS)

    async def _listen_to_supervisor(
        self, supervisor: Channel[WorkerToSupervisor, SupervisorToWorker]
    ) -> None:
        try:
            async with supervisor:
                async for message in supervisor.receive_all():
                    ticket = self._tickets.get(message.ticket)
                    if ticket is not None:
                        ticket.answer = message
                        ticket.is_answered.set()
        finally:
            self._supervisor = None
            for ticket in self._tickets.values():
                ticket.is_answered.set()

    async def _connection(self, path: str) -> HostConnection:
        async with self._connecting:
            if self._tasks is None:
                raise SupervisorAbsent
            connection = self._hosts.get(path)
            if connection is not None and connection.is_open:
                return connection
            try:
                stream = await anyio.connect_unix(path)
            except OSError:
                raise HostLost from None
            connection = HostConnection(Channel(stream, HostToWorker))
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


def _checked(part: SequenceOutput | Refused) -> SequenceOutput:
    """The output, or the error that it stands for."""
    if isinstance(part, Refused):
        if part.kind is RefusalKind.OVERLOADED:
            raise ModelOverloaded
        raise GenerationRefused(part.kind, part.message)
    if part.failure is not None:
        raise GenerationFailed(part.failure.message)
    return part


def _granted(source: ModelSource, ticket: _Ticket) -> Granted:
    """The grant, or the error that was answered instead of it."""
    if not ticket.is_answered.is_set():
        raise _still_loading(source)
    answer = ticket.answer
    if isinstance(answer, Granted):
        return answer
    if answer is None:
        raise SupervisorAbsent
    if answer.reason is DeclineReason.TOO_LARGE:
        raise ModelTooLarge(source.name, answer.needed_bytes, answer.budget_bytes)
    if answer.reason is DeclineReason.NOT_SERVABLE:
        raise ModelNotServable(f"{source.name} cannot be run: {answer.message}")
    if answer.reason is DeclineReason.NOT_LOADED:
        raise _still_loading(source)
    raise HostLost


def _still_loading(source: ModelSource) -> ModelLoading:
    return ModelLoading(source.name, _LOAD_SECONDS + source.weight_bytes / _LOAD_BYTES_PER_SECOND)
