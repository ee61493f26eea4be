"""The listener: takes CONNECT for a few host names, ends TLS, and passes requests on to the hub.

It ends when its standard input is closed. Run as `python -m gatehouse.server.drop_in.listener
OPTIONS`, where OPTIONS is `DropInOptions` as JSON.
"""

import logging
import math
import signal
import ssl
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import msgspec
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteStream
from anyio.streams.tls import TLSStream

from gatehouse.server.drop_in.authority import CertificateAuthority
from gatehouse.server.drop_in.connect import MAX_HEAD_BYTES, ConnectRefused, read_connect
from gatehouse.server.drop_in.options import DropInOptions
from gatehouse.server.drop_in.request_relay import RequestRefused, RequestRelay

_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_TOO_MANY = ConnectRefused("503 Service Unavailable", "Too many connections. Try again.")
_NO_HUB = ConnectRefused("502 Bad Gateway", "The hub does not answer.")
_BAD = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_CHUNK_BYTES = 256 * 1024
_LAST_SECONDS = 1.0
_RENEWED_AFTER_SECONDS = 24 * 3600.0
# It left, or says nothing.
_GONE = (
    OSError,
    TimeoutError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
)

_log = logging.getLogger(__name__)


class Certificates:
    """What the listener shows: a certificate that is never older than a day."""

    def __init__(self, authority: CertificateAuthority, names: tuple[str, ...]) -> None:
        self._authority = authority
        self._names = names
        self._made = -_RENEWED_AFTER_SECONDS
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        now = time.monotonic()
        if self._context is None or now - self._made >= _RENEWED_AFTER_SECONDS:
            self._context, self._made = self._new(), now
        return self._context

    def _new(self) -> ssl.SSLContext:
        leaf = self._authority.issue(self._names)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        # The library only reads files; this one lives for a moment, for this user's eyes.
        with tempfile.NamedTemporaryFile() as file:
            file.write(leaf.chain + leaf.key)
            file.flush()
            context.load_cert_chain(file.name)
        return context


class DropInListener:
    def __init__(self, options: DropInOptions, certificates: Certificates) -> None:
        self._options = options
        self._certificates = certificates
        self._num_open = 0

    async def serve(self, client: SocketStream) -> None:
        """One connection, from its CONNECT to its end."""
        async with client:
            if self._num_open >= self._options.num_connections:
                await _refuse(client, _TOO_MANY)
                return
            self._num_open += 1
            try:
                await self._tunnel(client)
            except _GONE:
                return
            except Exception:  # noqa: BLE001 - outermost: one connection's trouble is not another's
                _log.exception("A connection broke.")
            finally:
                self._num_open -= 1

    async def _tunnel(self, client: SocketStream) -> None:
        stream = BufferedByteStream(client)
        try:
            await self._take_connect(stream)
        except ConnectRefused as refusal:
            await _refuse(client, refusal)
            return
        try:
            hub = await anyio.connect_tcp(self._options.hub_host, self._options.hub_port)
        except OSError:
            await _refuse(client, _NO_HUB)
            return
        async with hub:
            await client.send(_ESTABLISHED)
            async with self._secured(stream) as secured:
                peer = client.extra(SocketAttribute.remote_address)  # noqa: S610 - not Django's
                relay = RequestRelay(self._options.names, str(peer[0]))
                await _Tunnel(secured, hub, relay, self._options).run()

    async def _take_connect(self, stream: BufferedByteStream) -> None:
        with anyio.fail_after(self._options.opening_seconds):
            try:
                head = await stream.receive_until(b"\r\n\r\n", MAX_HEAD_BYTES)
            except anyio.DelimiterNotFound:
                raise ConnectRefused(
                    "431 Request Header Fields Too Large", "The request's head is too long."
                ) from None
            except anyio.IncompleteRead:
                raise anyio.EndOfStream from None
        read_connect(head, self._options.names)

    @asynccontextmanager
    async def _secured(self, stream: BufferedByteStream) -> AsyncIterator[ByteStream]:
        with anyio.fail_after(self._options.opening_seconds):
            secured = await TLSStream.wrap(
                stream,
                server_side=True,
                ssl_context=self._certificates.context(),
                # Many clients just hang up.
                standard_compatible=False,
            )
        try:
            yield secured
        finally:
            with anyio.move_on_after(_LAST_SECONDS, shield=True):
                await secured.aclose()


class _Tunnel:
    """Both directions of one connection. When one ends, so does the other."""

    def __init__(
        self, client: ByteStream, hub: SocketStream, relay: RequestRelay, options: DropInOptions
    ) -> None:
        self._client = client
        self._hub = hub
        self._relay = relay
        self._options = options
        self._life = anyio.CancelScope()

    async def run(self) -> None:
        self._note_sign()
        with self._life:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._requests)
                tasks.start_soon(self._answers)

    async def _requests(self) -> None:
        # A head that has begun has to end in time, and the first has to begin.
        deadline = anyio.current_time() + self._options.opening_seconds
        try:
            while True:
                with anyio.fail_after(deadline - anyio.current_time()):
                    chunk = await self._client.receive(_CHUNK_BYTES)
                was_in_head = self._relay.is_in_head or self._relay.num_requests == 0
                data = self._relay.feed(chunk)
                self._note_sign()
                if data:
                    await self._hub.send(data)
                if not self._relay.is_in_head:
                    deadline = math.inf
                elif data or not was_in_head:
                    deadline = anyio.current_time() + self._options.opening_seconds
        except RequestRefused as refusal:
            _log.info("A request was refused: %s.", refusal)
            # In the middle of an answer there is nothing to say that would be understood.
            if self._relay.num_requests == 0:
                with suppress(*_GONE):
                    await self._client.send(_BAD)
        except _GONE:
            return
        finally:
            self._life.cancel()

    async def _answers(self) -> None:
        try:
            while True:
                await self._client.send(await self._hub.receive(_CHUNK_BYTES))
                self._note_sign()
        except _GONE:
            return
        finally:
            self._life.cancel()

    def _note_sign(self) -> None:
        self._life.deadline = anyio.current_time() + self._options.quiet_seconds


async def _refuse(client: SocketStream, refusal: ConnectRefused) -> None:
    """Answer, and listen on for a moment: who closes on unread bytes takes the answer back."""
    with suppress(*_GONE), anyio.move_on_after(_LAST_SECONDS):
        await client.send(refusal.answer)
        await client.send_eof()
        while True:
            await client.receive(_CHUNK_BYTES)


async def serve(options: DropInOptions) -> None:
    """Listen until cancelled."""
    authority = CertificateAuthority.open(Path(options.data_dir), options.names)
    listener = DropInListener(options, Certificates(authority, options.names))
    async with await anyio.create_tcp_listener(
        local_host=options.host, local_port=options.port
    ) as server:
        await server.serve(listener.serve)


def main() -> None:
    # Ctrl-C goes to every process of a terminal; the hub decides when we end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = msgspec.json.decode(sys.argv[1], type=DropInOptions)

    async def run() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve, options)
            await anyio.wait_readable(sys.stdin.fileno())
            tasks.cancel_scope.cancel()

    anyio.run(run)


if __name__ == "__main__":
    main()
