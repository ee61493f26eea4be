"""A hub worker's line to the supervisor: questions with numbered answers, and news one way.

Connects when it is needed, and again when the supervisor was started anew.
"""

import asyncio
import itertools
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


class Question:
    """Something that was asked of the supervisor, and is answered once."""

    def __init__(self, line: _Line) -> None:
        self.line = line
        self._answer: Answer | None = None
        self._is_settled = False
        self._waiting: asyncio.Future[None] | None = None

    def settle(self, answer: Answer | None) -> None:
        """Note the answer; None if none will come."""
        self._answer, self._is_settled = answer, True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def answer(self) -> Answer | None:
        """The answer, after waiting for it; None if the supervisor went meanwhile."""
        if not self._is_settled:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        return self._answer


class SupervisorLink:
    """Belongs to one task group, which its owner ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connecting = anyio.Lock()
        self._line: _Line | None = None
        self._numbers = itertools.count(1)
        self._questions: dict[int, Question] = {}
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
        try:
            return await (await self.post(ticket, question)).answer()
        finally:
            self.forget(ticket)

    async def post(self, ticket: int, question: WorkerToSupervisor) -> Question:
        """Ask, and leave waiting for later. To be followed by `forget`.

        Raises:
            SupervisorAbsent: Nobody is there to be asked.
        """
        line = self._line or await self._connected()
        posted = self._questions[ticket] = Question(line)
        if not await self._send(line, question):
            posted.settle(None)
        return posted

    def forget(self, ticket: int) -> None:
        """Be no longer interested in an answer."""
        self._questions.pop(ticket, None)

    async def tell(self, news: WorkerToSupervisor) -> None:
        """Send what has no answer.

        Raises:
            SupervisorAbsent: Nobody is there to be told.
        """
        if not await self._send(await self._connected(), news):
            raise SupervisorAbsent

    def tell_soon(self, news: WorkerToSupervisor) -> None:
        """The same for what a supervisor that has gone need not know. Does not wait."""
        if self._line is not None:
            self._line.post(news)

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
                        question.settle(message)
        finally:
            if self._line is line:
                self._line = None
            for question in self._questions.values():
                if question.line is line:
                    question.settle(None)
