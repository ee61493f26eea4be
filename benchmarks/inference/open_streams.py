"""Many event streams at once, read by one thread that only notes what came when.

What the bytes mean is found out afterwards, so that the reader keeps up.
"""

import re
import selectors
import socket
import time
from bisect import bisect_left
from dataclasses import dataclass, field

from benchmarks.inference.connections import connect

_READ_BYTES = 262144
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_TOKEN = re.compile(rb'"logprob":([0-9.e+-]+)[^\n]*\n')
_FIRST_EVENT_SECONDS = 60.0


@dataclass(eq=False)
class Stream:
    """One stream, and everything that came over it."""

    socket: socket.socket
    received: list[bytes] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    is_over: bool = False
    _end: bytes = b""

    def read(self) -> None:
        data = self.socket.recv(_READ_BYTES)
        self.moments.append(time.monotonic())
        self.received.append(data)
        # The last chunk may come in two parts.
        self._end = (self._end + data)[-len(_LAST_CHUNK) :]
        self.is_over = not data or self._end == _LAST_CHUNK

    @property
    def has_begun(self) -> bool:
        return any(b"data:" in part for part in self.received)

    def ages(self) -> list[float]:
        """Seconds between each token's making and its last byte's coming."""
        whole = b"".join(self.received)
        if not whole.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(whole[:2000].decode(errors="replace"))
        ends: list[int] = []
        length = 0
        for part in self.received:
            length += len(part)
            ends.append(length)
        return [
            self.moments[bisect_left(ends, found.end())] - float(found[1])
            for found in _TOKEN.finditer(whole)
        ]


class OpenStreams:
    """Opens `num_streams` connections with the same request, each its own."""

    def __init__(self, port: int, request: bytes, num_streams: int) -> None:
        self.streams = [Stream(connect(port)) for _ in range(num_streams)]
        self._selector = selectors.DefaultSelector()
        for stream in self.streams:
            self._selector.register(stream.socket, selectors.EVENT_READ, stream)
        for stream in self.streams:
            stream.socket.sendall(request)

    def read_all(self) -> None:
        """Read until every stream has ended."""
        while self._selector.get_map():
            self._read_some()

    def read_until_all_have_begun(self) -> None:
        """Read until every stream has had its first event.

        Raises:
            RuntimeError: One has not, after a minute.
        """
        waiting = set(self.streams)
        deadline = time.monotonic() + _FIRST_EVENT_SECONDS
        while waiting:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(waiting)} streams have not begun.")
            self._read_some()
            waiting = {stream for stream in waiting if not stream.has_begun}

    def close(self) -> None:
        for stream in self.streams:
            stream.socket.close()
        self._selector.close()

    def _read_some(self) -> None:
        for key, _ in self._selector.select(timeout=1):
            stream: Stream = key.data
            stream.read()
            if stream.is_over:
                self._selector.unregister(stream.socket)
