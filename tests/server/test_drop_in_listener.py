"""The listener before a stand-in hub: whom it leads there, what arrives, and when it hangs up."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import pytest
from anyio.abc import TaskStatus
from anyio.streams.tls import TLSStream

from gatehouse.server.drop_in.authority import CertificateAuthority
from gatehouse.server.drop_in.listener import Certificates, DropInListener
from gatehouse.server.drop_in.options import DropInOptions

pytestmark = pytest.mark.anyio

NAMES = ("huggingface.co", "router.huggingface.co")
REQUEST = b"GET /api/x HTTP/1.1\r\nHost: huggingface.co\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority.open(tmp_path_factory.mktemp("data"), NAMES)


@dataclass
class Proxy:
    """A running listener, as clients see it."""

    port: int
    roots: Path

    async def raw(self) -> anyio.abc.SocketStream:
        return await anyio.connect_tcp("127.0.0.1", self.port)

    async def ask(self, head: bytes) -> bytes:
        """Everything that comes back for these bytes."""
        found = b""
        async with await self.raw() as stream:
            await stream.send(head)
            async for chunk in stream:
                found += chunk
        return found

    @asynccontextmanager
    async def tunnel(self, host: str = "huggingface.co") -> AsyncIterator[TLSStream]:
        async with await self.raw() as stream:
            await stream.send(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
            assert await stream.receive() == b"HTTP/1.1 200 Connection established\r\n\r\n"
            context = ssl.create_default_context(cafile=str(self.roots))
            yield await TLSStream.wrap(
                stream, hostname=host, ssl_context=context, standard_compatible=False
            )


async def answer_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A hub that answers every request alike."""
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWER)
            await writer.drain()
    except asyncio.IncompleteReadError:
        writer.close()


@asynccontextmanager
async def running(
    authority: CertificateAuthority, hub: Handler | None = answer_each, **changes: float
) -> AsyncIterator[Proxy]:
    """A listener before a hub; without one, before a port where nobody is."""
    server = await asyncio.start_server(hub or answer_each, "127.0.0.1", 0)
    hub_port = server.sockets[0].getsockname()[1]
    if hub is None:
        server.close()
    quick = {"opening_seconds": 20.0, "quiet_seconds": 30.0, "num_connections": 512} | changes
    options = DropInOptions(
        host="127.0.0.1",
        port=0,
        hub_host="127.0.0.1",
        hub_port=hub_port,
        names=NAMES,
        data_dir="",
        num_connections=int(quick["num_connections"]),
        opening_seconds=quick["opening_seconds"],
        quiet_seconds=quick["quiet_seconds"],
    )
    listener = DropInListener(options, Certificates(authority, NAMES))
    try:
        async with anyio.create_task_group() as tasks:
            port = await tasks.start(partial(serve, listener))
            yield Proxy(port, authority.roots_path)
            tasks.cancel_scope.cancel()
    finally:
        server.close()


async def serve(listener: DropInListener, *, task_status: TaskStatus[int]) -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as server:
        task_status.started(server.extra(anyio.abc.SocketAttribute.local_port))
        await server.serve(listener.serve)


@pytest.mark.parametrize("host", NAMES)
async def test_requests_arrive_at_the_hub(authority: CertificateAuthority, host: str) -> None:
    heads: list[bytes] = []

    async def hub(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(ANSWER)
        writer.close()

    async with running(authority, hub) as proxy, proxy.tunnel(host) as stream:
        await stream.send(REQUEST.replace(b"huggingface.co", host.encode()))
        assert await stream.receive() == ANSWER
    assert f"host: {host}".encode() in heads[0]
    assert b"x-forwarded-for: 127.0.0.1" in heads[0]


async def test_a_connection_serves_many_requests(authority: CertificateAuthority) -> None:
    async with running(authority) as proxy, proxy.tunnel() as stream:
        for _ in range(3):
            await stream.send(REQUEST)
            assert await stream.receive() == ANSWER


async def test_pieces_of_an_answer_pass_as_they_come(authority: CertificateAuthority) -> None:
    go = asyncio.Event()

    async def hub(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"first")
        await writer.drain()
        await go.wait()
        writer.write(b"second")
        writer.close()

    async with running(authority, hub) as proxy, proxy.tunnel() as stream:
        await stream.send(REQUEST)
        assert await stream.receive() == b"first"
        go.set()
        assert await stream.receive() == b"second"


async def test_who_leaves_is_gone_for_the_hub_too(authority: CertificateAuthority) -> None:
    gone = asyncio.Event()

    async def hub(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"first")
        await reader.read()
        gone.set()
        writer.close()

    async with running(authority, hub) as proxy:
        async with proxy.tunnel() as stream:
            await stream.send(REQUEST)
            assert await stream.receive() == b"first"
        await asyncio.wait_for(gone.wait(), 5)


async def test_a_client_may_speak_before_it_is_answered(authority: CertificateAuthority) -> None:
    context = ssl.create_default_context(cafile=str(authority.roots_path))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = context.wrap_bio(incoming, outgoing, server_hostname="huggingface.co")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    async with running(authority) as proxy, await proxy.raw() as stream:
        await stream.send(b"CONNECT huggingface.co:443 HTTP/1.1\r\n\r\n" + outgoing.read())
        found = b""
        while b"\x16\x03" not in found:  # how the server's side of a handshake begins
            found += await stream.receive()
    assert found.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"CONNECT example.com:443 HTTP/1.1\r\n\r\n", b"403"),
        (b"CONNECT huggingface.co:80 HTTP/1.1\r\n\r\n", b"403"),
        (b"GET http://huggingface.co/ HTTP/1.1\r\n\r\n", b"405"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", b"400"),
        (b"CONNECT " + b"a" * 20_000, b"431"),
    ],
)
async def test_nothing_else_is_led_anywhere(
    authority: CertificateAuthority, head: bytes, status: bytes
) -> None:
    async with running(authority) as proxy:
        answer = await proxy.ask(head)
    assert answer.split()[1] == status


async def test_without_a_hub_there_is_an_answer(authority: CertificateAuthority) -> None:
    async with running(authority, None) as proxy:
        answer = await proxy.ask(b"CONNECT huggingface.co:443 HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 502")


@pytest.mark.parametrize("head", [b"", b"CONNECT hugg", b"CONNECT hf.co:443 HTTP/1.1\r\nA: b"])
async def test_who_says_nothing_is_left(authority: CertificateAuthority, head: bytes) -> None:
    async with running(authority, opening_seconds=0.2) as proxy, await proxy.raw() as stream:
        if head:
            await stream.send(head)
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await stream.receive()


async def test_who_shakes_no_hands_is_left(authority: CertificateAuthority) -> None:
    async with running(authority, opening_seconds=0.2) as proxy, await proxy.raw() as stream:
        await stream.send(b"CONNECT huggingface.co:443 HTTP/1.1\r\n\r\n")
        assert (await stream.receive()).startswith(b"HTTP/1.1 200")
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await stream.receive()


@pytest.mark.parametrize("sent", [b"", b"GET / HT", REQUEST + b"GET / HTTP/1.1\r\nHost: "])
async def test_a_request_that_does_not_go_on_ends_the_connection(
    authority: CertificateAuthority, sent: bytes
) -> None:
    async with running(authority, opening_seconds=2) as proxy, proxy.tunnel() as stream:
        if sent:
            await stream.send(sent)
        answers = [answer async for answer in stream]
    assert answers == [ANSWER] * sent.count(REQUEST)


async def test_a_quiet_connection_ends(authority: CertificateAuthority) -> None:
    async with running(authority, quiet_seconds=0.3) as proxy, proxy.tunnel() as stream:
        await stream.send(REQUEST)
        assert await stream.receive() == ANSWER
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await stream.receive()


async def test_a_request_for_another_host_is_refused(authority: CertificateAuthority) -> None:
    async with running(authority) as proxy, proxy.tunnel() as stream:
        await stream.send(b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
        assert (await stream.receive()).startswith(b"HTTP/1.1 400")


async def test_more_connections_than_allowed_are_refused(authority: CertificateAuthority) -> None:
    async with running(authority, num_connections=1) as proxy:
        async with proxy.tunnel() as stream:
            answer = await proxy.ask(b"CONNECT huggingface.co:443 HTTP/1.1\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 503")
            await stream.send(REQUEST)
            assert await stream.receive() == ANSWER
        await anyio.sleep(0.1)
        async with proxy.tunnel() as stream:
            await stream.send(REQUEST)
            assert await stream.receive() == ANSWER


async def test_the_certificate_is_renewed(
    authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = Certificates(authority, NAMES)
    first = certificates.context()
    assert certificates.context() is first
    moment = asyncio.get_running_loop().time() + 25 * 3600
    monkeypatch.setattr("gatehouse.server.drop_in.listener.time.monotonic", lambda: moment)
    assert certificates.context() is not first
