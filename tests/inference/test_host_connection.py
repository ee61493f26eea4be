"""One host's socket with a host that says what is written."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import anyio
import pytest

from gatehouse.engines.base import (
    Failure,
    Finish,
    FinishReason,
    GeneratedToken,
    GenerationRequest,
    RefusalKind,
    ScoredToken,
    SequenceOutput,
    Start,
    TextPrompt,
)
from gatehouse.engines.framing import encode_frame
from gatehouse.engines.messages import HostToWorker, Stepped
from gatehouse.inference.errors import GenerationFailed, HostLost
from gatehouse.inference.lifecycle.channel import Channel
from gatehouse.inference.lifecycle.host_connection import HostConnection
from gatehouse.inference.lifecycle.local_socket import LocalSocket
from gatehouse.observability.metrics import Metrics

pytestmark = pytest.mark.anyio

REQUEST = GenerationRequest(prompt=TextPrompt("x"))


def token(number: int) -> GeneratedToken:
    return GeneratedToken(ScoredToken(number, f"t{number}", -1.0, special=False), f"t{number}")


def step(number: int, *, last: int | None = None) -> SequenceOutput:
    start = Start(3, None, (), 0.0) if number == 0 else None
    finish = Finish(FinishReason.LENGTH, number + 1) if number == last else None
    return SequenceOutput(1, (token(number),), start, finish)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[HostConnection, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    loop = asyncio.get_running_loop()
    _, stream = await loop.create_unix_connection(LocalSocket, sock=ours)
    connection = HostConnection(Channel(stream, HostToWorker), Metrics().sequences("m"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(connection.listen)
        with theirs:
            yield connection, theirs
        tasks.cancel_scope.cancel()


async def test_reader_that_was_busy_catches_up_in_one_step() -> None:
    async with connected() as (connection, host), aclosing(connection.generate(REQUEST)) as outputs:
        host.sendall(encode_frame(Stepped((step(0),))))
        first = await anext(outputs)
        assert [generated.piece for generated in first.tokens] == ["t0"]
        for number in range(1, 5):
            host.sendall(encode_frame(Stepped((step(number, last=4),))))
        await anyio.wait_all_tasks_blocked()
        rest = [output async for output in outputs]
    assert [generated.piece for output in rest for generated in output.tokens] == [
        "t1",
        "t2",
        "t3",
        "t4",
    ]
    assert len(rest) == 1
    assert rest[0].finish == Finish(FinishReason.LENGTH, 5)
    assert rest[0].start is None


async def test_tokens_before_a_failure_are_given_out_first() -> None:
    failed = SequenceOutput(1, failure=Failure(RefusalKind.GENERATION, "broke"))
    async with connected() as (connection, host), aclosing(connection.generate(REQUEST)) as outputs:
        host.sendall(encode_frame(Stepped((step(0),))))
        await anext(outputs)
        host.sendall(encode_frame(Stepped((step(1),))) + encode_frame(Stepped((failed,))))
        await anyio.wait_all_tasks_blocked()
        assert (await anext(outputs)).tokens == (token(1),)
        with pytest.raises(GenerationFailed, match="broke"):
            await anext(outputs)


async def test_tokens_before_a_loss_are_given_out_first() -> None:
    async with connected() as (connection, host), aclosing(connection.generate(REQUEST)) as outputs:
        host.sendall(encode_frame(Stepped((step(0),))))
        await anext(outputs)
        host.sendall(encode_frame(Stepped((step(1),))))
        host.close()
        await anyio.wait_all_tasks_blocked()
        assert (await anext(outputs)).tokens == (token(1),)
        with pytest.raises(HostLost):
            await anext(outputs)
