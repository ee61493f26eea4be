"""A hub worker's line to the supervisor: questions with numbered answers, and news one way.

Connects when it is needed, and again when the supervisor was started anew.
"""

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio.abc import TaskGroup

from gatehouse.inference.errors import SupervisorAbsent
from gatehouse.inference.lifecycle.channel import Channel
from gatehouse.inference.lifecycle.local_socket import LocalSocket, connect
from gatehouse.inference.lifecycle.messages import (
    Declined,
    Granted,
    Report,
    SupervisorToWorker,
    WorkerToSupervisor,
)

# A hub that has just started may be faster than its supervisor, and so is one that was killed.
_CONNECT_SECONDS = 5.0
_CONNECT_PAUSE_SECONDS = 0.05

_Line = Channel[WorkerToSupervisor, SupervisorToWorker]
Answer = Granted | Declined | Report


@dataclass(eq=False)
class _Question:
    line: _Line
    is_answered: anyio.Event = field(default_factory=anyio.Event)
    answer: Answer | None = None


class SupervisorLink:
    """Belongs to one task group, which its owner ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connecting = anyio.Lock()
        self._line: _Line | None = None
        self._numbers = itertools.count(1)
        self._questions: dict[int, _Question] = {}
        self._tasks: TaskGroup | None = None

    def open(self, tasks: TaskGroup) -> None:
        self._tasks = tasks

    def close(self) -> None:
        """Connect no more. What is connected ends with the task group."""
        self._tasks = None

    def new_ticket(self) -> int:
        return next(self._numbers)

    @property
    def connection(self) -> object:
        """Changes when the supervisor was started anew; None without a connection."""
        return self._line

    async def ask(self, ticket: int, question: WorkerToSupervisor) -> Answer | None:
        """The answer to a question with this ticket; None if the supervisor went meanwhile.

        Raises:
            SupervisorAbsent: Nobody is there to be asked.
        """
        line = await self._connected()
        waiting = self._questions[ticket] = _Question(line)
        try:
            if await self._send(line, question):
                await waiting.is_answered.wait()
            return waiting.answer
        finally:
            del self._questions[ticket]

    async def tell(self, news: WorkerToSupervisor) -> None:
        """Send what has no answer.

        Raises:
            SupervisorAbsent: Nobody is there to be told.
        """
        if not await self._send(await self._connected(), news):
            raise SupervisorAbsent

    async def tell_if_connected(self, news: WorkerToSupervisor) -> None:
        """The same for what a supervisor that has gone need not know."""
        if self._line is not None:
            await self._send(self._line, news)

    async def _send(self, line: _Line, message: WorkerToSupervisor) -> bool:
        """Whether it could be sent; if not, the line is dead."""
        try:
            await line.send(message)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            if self._line is line:
                self._line = None
            return False
        return True

    async def _connected(self) -> _Line:
        async with self._connecting:
            if self._tasks is None:
                raise SupervisorAbsent
            if self._line is None:
                self._line = Channel(await self._patiently_connect(), SupervisorToWorker)
                self._tasks.start_soon(self._listen, self._line)
            return self._line

    async def _patiently_connect(self) -> LocalSocket:
        deadline = anyio.current_time() + _CONNECT_SECONDS
        while True:
            try:
                return await connect(self._path)
            except OSError:
                if anyio.current_time() >= deadline:
                    raise SupervisorAbsent from None
            await anyio.sleep(_CONNECT_PAUSE_SECONDS)

    async def _listen(self, line: _Line) -> None:
        try:
            async with line:
                async for message in line.receive_all():
                    question = self._questions.get(message.ticket)
                    if question is not None:
                        question.answer = message
                        question.is_answered.set()
        finally:
            if self._line is line:
                self._line = None
            for question in self._questions.values():
                if question.line is line:
                    question.is_answered.set()
