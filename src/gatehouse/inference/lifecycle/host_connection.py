"""One host's socket, shared by all requests of this worker; and a model held on it."""

import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import anyio

from gatehouse.engines.base import (
    EmbeddingRequest,
    Embeddings,
    GenerationRequest,
    ModelDescription,
    Prompt,
    RefusalKind,
    SequenceOutput,
    TokenizedPrompt,
)
from gatehouse.engines.messages import (
    Cancel,
    Embed,
    Embedded,
    Generate,
    HostToWorker,
    Refused,
    Stepped,
    Tokenize,
    Tokenized,
    WorkerToHost,
)
from gatehouse.inference.errors import (
    GenerationFailed,
    GenerationRefused,
    HostLost,
    ModelOverloaded,
)
from gatehouse.inference.lifecycle.channel import Channel
from gatehouse.inference.lifecycle.mailbox import Mailbox
from gatehouse.observability.metrics import SequenceGauges

HostChannel = Channel[WorkerToHost, HostToWorker]
Ready = Callable[[], Awaitable["HostConnection"]]
_Part = SequenceOutput | Tokenized | Embedded | Refused


@dataclass(eq=False)
class HostConnection:
    """One host's socket, shared by all of this worker's sequences."""

    channel: HostChannel
    gauges: SequenceGauges
    is_open: bool = True
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _waiting: dict[int, Mailbox[_Part]] = field(default_factory=dict)

    async def listen(self) -> None:
        """Hand incoming tokens to those who wait for them, until the host goes."""
        try:
            async with self.channel:
                async for message in self.channel.receive_all():
                    parts = message.outputs if isinstance(message, Stepped) else (message,)
                    for part in parts:
                        waiting = self._waiting.get(part.request_id)
                        if waiting is not None:
                            waiting.put(part)
        finally:
            self.is_open = False
            for waiting in self._waiting.values():
                waiting.close()

    async def generate(
        self, request: GenerationRequest, ready: "Ready | None" = None
    ) -> AsyncGenerator[SequenceOutput]:
        """One sequence's outputs. Closing the generator early cancels the sequence.

        Args:
            request: What to generate.
            ready: What has to be waited for before the first output is given out, while the host is
                at it already. Its error ends the sequence.

        Raises:
            GenerationRefused: The model cannot take this request.
            ModelOverloaded: Too many are waiting.
            GenerationFailed: It broke midway.
            HostLost: The host has gone.
        """
        number = next(self._numbers)
        is_over = False
        with self._expecting(number) as parts, self._counting() as has_begun:
            try:
                await self._send(Generate(number, request))
                if ready is not None and await ready() is not self:
                    raise HostLost  # the model has been loaded anew, elsewhere
                while arrived := await parts.take():
                    has_begun()
                    for part in _joined(arrived):
                        assert not isinstance(part, Tokenized | Embedded)
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

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """See `HeldModel.embed`. Giving up the wait cancels the request."""
        number = next(self._numbers)
        is_over = False
        with self._expecting(number) as parts:
            try:
                await self._send(Embed(number, request))
                for part in await parts.take():
                    is_over = True
                    if isinstance(part, Embedded):
                        return part.embeddings
                    assert isinstance(part, Refused)
                    _checked(part)
                is_over = True
                raise HostLost
            finally:
                if not is_over and self.is_open:
                    with anyio.CancelScope(shield=True):
                        await self._send_or_ignore(Cancel(number))

    async def tokenize(self, prompt: Prompt, priority: int = 0) -> TokenizedPrompt:
        """See `HeldModel.tokenize`."""
        number = next(self._numbers)
        with self._expecting(number) as parts:
            await self._send(Tokenize(number, prompt, priority))
            for part in await parts.take():
                if isinstance(part, Tokenized):
                    return part.prompt
                assert isinstance(part, Refused)
                _checked(part)
        raise HostLost

    @contextmanager
    def _counting(self) -> Iterator[Callable[[], None]]:
        """Count a sequence as queued, and as running from the first call of what is given."""
        queued, running = self.gauges.queued, self.gauges.running
        where = queued
        where.inc()

        def begin() -> None:
            nonlocal where
            if where is queued:
                where.dec()
                where = running
                where.inc()

        try:
            yield begin
        finally:
            where.dec()

    @contextmanager
    def _expecting(self, number: int) -> Iterator[Mailbox[_Part]]:
        """What the host says about one request; ends when the host goes."""
        self._waiting[number] = mailbox = Mailbox[_Part]()
        try:
            yield mailbox
        finally:
            del self._waiting[number]

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
    """`HeldModel` on a host of ours.

    Attributes:
        description: The model's.
        connection: To where it is, or was a moment ago.
        ready: Waits until it is certain that the model is held, and gives the connection to where
            it is then; None if it is certain.
    """

    description: ModelDescription
    connection: HostConnection
    ready: Ready | None = None

    def generate(self, request: GenerationRequest) -> AsyncGenerator[SequenceOutput]:
        """See `HostConnection.generate`."""
        return self.connection.generate(request, self.ready)

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        return await (await self._connection()).embed(request)

    async def tokenize(self, prompt: Prompt, priority: int = 0) -> TokenizedPrompt:
        return await (await self._connection()).tokenize(prompt, priority)

    async def _connection(self) -> HostConnection:
        return self.connection if self.ready is None else await self.ready()


def _joined(parts: list[_Part]) -> list[_Part]:
    """Steps that came while their reader was busy, as one step: so it catches up."""
    steps = [part for part in parts if isinstance(part, SequenceOutput) and part.failure is None]
    if len(parts) == 1 or len(steps) < len(parts):
        return parts
    tokens = tuple(token for step in steps for token in step.tokens)
    first, last = steps[0], steps[-1]
    return [SequenceOutput(first.request_id, tokens, first.start, last.finish)]


def _checked(part: SequenceOutput | Refused) -> SequenceOutput:
    """The output, or the error that it stands for."""
    if isinstance(part, Refused):
        if part.kind is RefusalKind.OVERLOADED:
            raise ModelOverloaded
        raise GenerationRefused(part.kind, part.message)
    if part.failure is not None:
        raise GenerationFailed(part.failure.message)
    return part
