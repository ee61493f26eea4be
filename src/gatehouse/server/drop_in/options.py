"""What the listener is told, as its parent writes it and its process reads it."""

import msgspec


class DropInOptions(msgspec.Struct, frozen=True):
    """Where to listen and where to pass on to; times in seconds.

    Attributes:
        host: Address to listen on.
        hub_host: Where the hub listens.
        names: Host names to answer for.
        num_connections: At once; more are refused.
        opening_seconds: For the CONNECT, the handshake and the first request, each.
        quiet_seconds: A connection on which nothing passes for so long is closed.
    """

    host: str
    port: int
    hub_host: str
    hub_port: int
    names: tuple[str, ...]
    data_dir: str
    num_connections: int = 512
    opening_seconds: float = 15.0
    quiet_seconds: float = 900.0
