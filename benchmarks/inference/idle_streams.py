"""What the hub's worker pays, in memory, for streams that are open and silent."""

import time

from benchmarks.figures import show_bar, show_table
from benchmarks.inference.connections import http_request
from benchmarks.inference.hub import SILENT, Hub, Server
from benchmarks.inference.open_streams import OpenStreams

_BAR = 30.0
_KIB = 1024
_WARM_UP = 20
_SETTLE_SECONDS = 1.0


def measure(hub: Hub, floor: Server, num_streams: int) -> None:
    """Open the streams, let each have one token, and see how the worker has grown."""
    body = {"inputs": "Say one word.", "parameters": {"max_new_tokens": 1000}, "stream": True}
    to_hub = http_request(hub.path(SILENT), body, hub.token)
    # One token, and no other for a quarter of an hour.
    to_floor = http_request("/stream?rate=0.001&tokens=2", {})
    rows = [
        _row("a trivial application", floor, to_floor, num_streams),
        _row("the hub", hub, to_hub, num_streams),
    ]
    show_table(
        f"Memory of the worker with {num_streams} open streams that have had one token",
        [
            "server",
            "before, MiB",
            "with streams, MiB",
            "after, MiB",
            "KiB a stream",
            "opened in, s",
        ],
        [cells for cells, _ in rows],
    )
    show_bar("memory of an idle stream", rows[1][1], "KiB", _BAR)


def _row(name: str, server: Server, request: bytes, num_streams: int) -> tuple[list[str], float]:
    # What the first streams bring with them stays, and is not theirs.
    _open(server, request, _WARM_UP).close()
    time.sleep(_SETTLE_SECONDS)
    before = server.memory_bytes()
    started = time.monotonic()
    streams = _open(server, request, num_streams)
    opened_in = time.monotonic() - started
    time.sleep(_SETTLE_SECONDS)
    during = server.memory_bytes()
    streams.close()
    time.sleep(_SETTLE_SECONDS)
    after = server.memory_bytes()
    each = (during - before) / num_streams / _KIB
    sizes = [f"{size / _KIB / _KIB:.1f}" for size in (before, during, after)]
    return [name, *sizes, f"{each:.1f}", f"{opened_in:.1f}"], each


def _open(server: Server, request: bytes, num_streams: int) -> OpenStreams:
    streams = OpenStreams(server.port, request, num_streams)
    streams.read_until_all_have_begun()
    return streams
