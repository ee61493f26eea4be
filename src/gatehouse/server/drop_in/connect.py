"""Reads what a client asks a proxy for, and decides. Pure bytes."""

import re
from collections.abc import Collection

MAX_HEAD_BYTES = 8 * 1024
_LINE = re.compile(rb"([!-~]+) ([!-~]+) HTTP/1\.[01]")
_TARGET = re.compile(r"([A-Za-z0-9.\-]{1,253}):(\d{1,5})")


class ConnectRefused(Exception):
    """The client gets this status and sentence, and nothing else."""

    def __init__(self, status: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence

    @property
    def answer(self) -> bytes:
        body = f"{self.sentence}\n"
        return (
            f"HTTP/1.1 {self.status}\r\nContent-Type: text/plain\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()


def read_connect(head: bytes, names: Collection[str]) -> str:
    """The host that is wanted, one of `names`.

    Args:
        head: Everything before the empty line.
        names: Lower-case host names.

    Raises:
        ConnectRefused: It is no CONNECT, or to another host or port.
    """
    line = _LINE.fullmatch(head.partition(b"\r\n")[0])
    if line is None:
        raise ConnectRefused("400 Bad Request", "This is no HTTP request.")
    if line[1] != b"CONNECT":
        raise ConnectRefused(
            "405 Method Not Allowed",
            "This port only takes CONNECT: set it as HTTPS_PROXY, not as an address.",
        )
    target = _TARGET.fullmatch(line[2].decode("ascii"))
    host = target[1].lower().removesuffix(".") if target else ""
    if target is None or target[2] != "443" or host not in names:
        raise ConnectRefused(
            "403 Forbidden",
            f"This proxy only leads to {', '.join(sorted(names))}, on port 443. "
            "Name other hosts in NO_PROXY.",
        )
    return host
