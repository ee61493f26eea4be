"""Passes requests of one connection on to the hub, checked and with their true origin. No I/O.

A client may not say where it comes from, nor reach the hub under another name than the one that the
connection was made for.
"""

from collections.abc import Collection
from typing import Any

import h11

MAX_HEAD_BYTES = 64 * 1024
# What a proxy says and a client may not, and what leads out of HTTP/1.1.
_DROPPED = frozenset(
    {
        b"forwarded",
        b"via",
        b"x-real-ip",
        b"upgrade",
        b"http2-settings",
        b"proxy-authorization",
        b"proxy-connection",
    }
)


class RequestRefused(Exception):
    """The client does not speak HTTP as it must; the connection ends."""


class RequestRelay:
    """Reads requests and writes them again.

    Args:
        names: The host names that the hub answers for here.
        client: The address that the requests come from.
    """

    def __init__(self, names: Collection[str], client: str) -> None:
        self._names = names
        self._client = client.encode("ascii", "replace")
        self._reader = _new_reader()
        self._is_chunked = False
        self._has_partial_head = False
        self.num_requests = 0

    @property
    def is_in_head(self) -> bool:
        """Whether a part of a request's head has come."""
        return self._has_partial_head

    def feed(self, data: bytes) -> bytes:
        """What to send on for these bytes.

        Raises:
            RequestRefused: They are no request, or one that may not pass.
        """
        if not data:  # which would mean the end
            return b""
        self._reader.receive_data(data)
        self._has_partial_head = self._has_partial_head or self._reader.their_state is h11.IDLE
        parts: list[bytes] = []
        try:
            while True:
                event = self._reader.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return b"".join(parts)
                parts.append(self._write(event))
        except h11.RemoteProtocolError as error:
            raise RequestRefused(str(error)) from None

    def _write(self, event: Any) -> bytes:
        if isinstance(event, h11.Request):
            return self._head(event)
        if isinstance(event, h11.Data):
            data = bytes(event.data)
            return b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data
        assert isinstance(event, h11.EndOfMessage)
        rest, _ = self._reader.trailing_data
        self._reader = _new_reader()
        if rest:
            self._reader.receive_data(rest)
        self._has_partial_head = bool(rest)
        return b"0\r\n\r\n" if self._is_chunked else b""

    def _head(self, request: h11.Request) -> bytes:
        self._has_partial_head = False
        headers = list(request.headers)
        hosts = [value for name, value in headers if name == b"host"]
        if not hosts or _host(hosts[0]) not in self._names:
            raise RequestRefused("a request for another host")
        if not request.target.startswith((b"/", b"*")):
            raise RequestRefused("a target that is no path")
        self.num_requests += 1
        self._is_chunked = any(name == b"transfer-encoding" for name, _ in headers)
        version = bytes(request.http_version)
        lines = [b"%b %b HTTP/%b" % (request.method, request.target, version)]
        lines += [b"%b: %b" % pair for pair in headers if self._may_pass(pair[0])]
        lines.append(b"x-forwarded-for: " + self._client)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _may_pass(self, name: bytes) -> bool:
        if name == b"content-length":
            return not self._is_chunked  # it says nothing beside chunks, and not all agree on that
        return name not in _DROPPED and not name.startswith(b"x-forwarded-")


def _new_reader() -> h11.Connection:
    return h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)


def _host(value: bytes) -> str:
    host, _, port = value.decode("ascii", "replace").lower().partition(":")
    return host.removesuffix(".") if port in ("", "443") else ""
