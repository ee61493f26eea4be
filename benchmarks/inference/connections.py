"""The two ways to ask: HTTP over one kept connection, and a host's own socket. Both block.

As plain as they can be, since what a client takes is counted as latency.
"""

import itertools
import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from gatehouse.engines.base import GenerationRequest, SequenceOutput, TextPrompt
from gatehouse.engines.framing import FrameReader, encode_frame
from gatehouse.engines.messages import Generate, HostToWorker, Stepped

_READ_BYTES = 65536
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_TIMEOUT_SECONDS = 60.0


def http_request(path: str, body: Any, token: str = "") -> bytes:
    """A POST as it goes over the wire."""
    data = json.dumps(body).encode()
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"User-Agent: benchmark\r\n{authorization}Content-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


@dataclass(eq=False)
class HttpConnection:
    """One connection to a server, kept alive."""

    port: int

    def __post_init__(self) -> None:
        self._socket = connect(self.port)

    def ask(self, request: bytes) -> bytes:
        """Send a request and read its whole answer, head and body.

        Raises:
            RuntimeError: The status is not 200.
        """
        self._socket.sendall(request)
        answer = self._socket.recv(_READ_BYTES)
        while (end := answer.find(b"\r\n\r\n")) < 0:
            answer += self._more()
        found = _LENGTH.search(answer)
        assert found is not None, answer
        length = end + 4 + int(found[1])
        while len(answer) < length:
            answer += self._more()
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer.decode(errors="replace"))
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _more(self) -> bytes:
        data = self._socket.recv(_READ_BYTES)
        if not data:
            raise RuntimeError("The server hung up.")
        return data


@dataclass(eq=False)
class HostSocket:
    """One connection to a model host, as a hub worker has it."""

    path: Path
    _reader: FrameReader[HostToWorker] = field(default_factory=lambda: FrameReader(HostToWorker))
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(self.path))

    def send(self, prompt: str, max_new_tokens: int) -> None:
        request = GenerationRequest(prompt=TextPrompt(prompt), max_new_tokens=max_new_tokens)
        self._socket.sendall(encode_frame(Generate(next(self._numbers), request)))

    def receive(self) -> list[SequenceOutput]:
        """What has come; waits until something has."""
        outputs: list[SequenceOutput] = []
        for message in self._reader.feed(self._socket.recv(_READ_BYTES)):
            assert isinstance(message, Stepped), message
            outputs += message.outputs
        return outputs

    def ask(self, prompt: str, max_new_tokens: int) -> None:
        """Run one sequence to its end."""
        self.send(prompt, max_new_tokens)
        while not any(output.is_last for output in self.receive()):
            pass
