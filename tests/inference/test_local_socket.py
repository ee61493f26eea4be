"""Unix sockets of the hub's own processes, both ends in one."""

import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest

from gatehouse.inference.lifecycle.local_socket import LocalSocket, connect, serve

pytestmark = pytest.mark.anyio


class Ends:
    """Hands over the server's end of each connection."""

    def __init__(self) -> None:
        self._send, self._receive = anyio.create_memory_object_stream[LocalSocket](10)

    async def accept(self, accepted: LocalSocket) -> None:
        await self._send.send(accepted)

    async def one(self) -> LocalSocket:
        with anyio.fail_after(5):
            return await self._receive.receive()

    def close(self) -> None:
        self._send.close()
        self._receive.close()


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Path, Ends]]:
    ends = Ends()
    # Short, as Unix sockets demand.
    with TemporaryDirectory(prefix="gh") as folder:
        path = Path(folder) / "socket"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve, path, ends.accept)
            await anyio.wait_all_tasks_blocked()
            yield path, ends
            tasks.cancel_scope.cancel()
    ends.close()


async def test_bytes_go_both_ways_and_the_end_is_told() -> None:
    async with serving() as (path, ends):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        ours = await connect(path)
        theirs = await ends.one()
        await ours.send(b"question")
        assert await theirs.receive() == b"question"
        await theirs.send(b"answer")
        theirs.close()
        assert await ours.receive() == b"answer"
        with pytest.raises(anyio.EndOfStream):
            await ours.receive()
        with pytest.raises(anyio.BrokenResourceError):
            await ours.send(b"more")
        ours.close()


async def test_nobody_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        await connect(tmp_path / "nobody")


async def test_messages_of_many_tasks_arrive_whole_however_slow_the_reader() -> None:
    async with serving() as (path, ends):
        with socket.socket(socket.AF_UNIX) as reader:
            await anyio.to_thread.run_sync(reader.connect, str(path))
            writer = await ends.one()
            messages = [bytes([number]) * 300_000 for number in range(8)]
            async with anyio.create_task_group() as tasks:
                for message in messages:
                    tasks.start_soon(writer.send, message)
                await anyio.wait_all_tasks_blocked()
                received = b""
                while len(received) < sum(map(len, messages)):
                    received += await anyio.to_thread.run_sync(reader.recv, 100_000)
            assert received == b"".join(messages)
            writer.close()


async def test_sender_is_held_back_while_nobody_reads_and_freed_when_they_go() -> None:
    async with serving() as (path, ends):
        deaf = socket.socket(socket.AF_UNIX)
        await anyio.to_thread.run_sync(deaf.connect, str(path))
        theirs = await ends.one()
        num_sent = 0

        async def send_much() -> None:
            nonlocal num_sent
            for _ in range(1000):
                try:
                    await theirs.send(b"x" * 100_000)
                except anyio.BrokenResourceError:
                    return
                num_sent += 1

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send_much)
                await anyio.wait_all_tasks_blocked()
                assert num_sent < 100
                deaf.close()
        assert num_sent < 1000
        theirs.close()
