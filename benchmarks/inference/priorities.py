"""What a plan's priority is worth: streams of a PRO user while free users keep the model busy."""

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.figures import Spread, show_table
from benchmarks.inference.connections import HttpConnection, connect, http_request
from benchmarks.inference.demo_hub import PATH, DemoHub, running_demo_hub
from benchmarks.inference.open_streams import Stream

NUM_TOKENS = 20
NUM_FREE_USERS = 6
# Of each free user at any moment. Their plan lets them have one more, which is for the one that is
# measured. All together are about three times what the engine runs at once.
NUM_UNDER_WAY = 15
_WARM_UP = 3
_BUSY_SECONDS = 120.0

# No two requests have the same one, so none is answered from the cache.
_seeds = itertools.count()


@dataclass
class _Caller:
    """Whose streams are measured, and when their first and their last bytes came, in seconds."""

    name: str
    token: str
    first: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)

    def ask(self, hub: DemoHub) -> None:
        stream = Stream(connect(hub.port))
        with stream.socket:
            started = time.monotonic()
            stream.socket.sendall(_request(self.token, is_stream=True))
            while not stream.has_begun and not stream.is_over:
                stream.read()
            self.first.append(stream.moments[-1] - started)
            while not stream.is_over:
                stream.read()
        self.last.append(stream.moments[-1] - started)
        _require_all_tokens(stream)

    def warm_up(self, hub: DemoHub) -> None:
        for _ in range(_WARM_UP):
            self.ask(hub)
        self.first.clear()
        self.last.clear()


def measure(folder: Path, num_rounds: int) -> None:
    """A PRO user alone; then one of the PRO and one of a free user under load, in turn."""
    with running_demo_hub(folder, NUM_FREE_USERS) as hub:
        alone = _Caller("PRO, alone", hub.pro_token)
        pro = _Caller("PRO, under load", hub.pro_token)
        free = _Caller("free, under load", hub.free_tokens[0])
        alone.warm_up(hub)
        for _ in range(num_rounds):
            alone.ask(hub)
        with _load(hub):
            for _ in range(num_rounds):
                pro.ask(hub)
                free.ask(hub)
    _show(alone, pro, free)


@contextmanager
def _load(hub: DemoHub) -> Iterator[None]:
    """Free users who ask again as soon as they are answered; the block begins when all wait."""
    tokens = hub.free_tokens * NUM_UNDER_WAY
    are_busy = threading.Barrier(len(tokens) + 1, timeout=_BUSY_SECONDS)
    is_over = threading.Event()

    def keep_asking(token: str) -> None:
        with HttpConnection(hub.port) as connection:
            connection.ask(_request(token))
            are_busy.wait()
            while not is_over.is_set():
                connection.ask(_request(token))

    with ThreadPoolExecutor(len(tokens)) as threads:
        asking = [threads.submit(keep_asking, token) for token in tokens]
        try:
            are_busy.wait()
            yield
        finally:
            is_over.set()
            are_busy.abort()
    for asked in asking:
        asked.result()


def _request(token: str, *, is_stream: bool = False) -> bytes:
    parameters = {"max_new_tokens": NUM_TOKENS, "seed": next(_seeds)}
    body = {"inputs": "Once upon a time", "parameters": parameters, "stream": is_stream}
    return http_request(PATH, body, token)


def _require_all_tokens(stream: Stream) -> None:
    whole = b"".join(stream.received)
    if not whole.startswith(b"HTTP/1.1 200") or whole.count(b"data:") != NUM_TOKENS:
        raise RuntimeError(whole[:2000].decode(errors="replace"))


def _show(alone: _Caller, pro: _Caller, free: _Caller) -> None:
    ratios = ("of PRO alone", "of PRO under load")
    show_table(
        f"Streams of {NUM_TOKENS} tokens while {NUM_FREE_USERS * NUM_UNDER_WAY} others of free "
        f"users are under way, ms ({len(pro.first)} of each, the loaded ones in turn)",
        ["caller", "first token", "p90", *ratios, "end", "p90", *ratios],
        [
            [
                caller.name,
                *_cells(caller.first, alone.first, pro.first),
                *_cells(caller.last, alone.last, pro.last),
            ]
            for caller in (alone, pro, free)
        ],
    )


def _cells(seconds: list[float], alone: list[float], pro: list[float]) -> list[str]:
    spread = Spread.of(seconds)
    ratios = [spread.p50 / Spread.of(other).p50 for other in (alone, pro)]
    times = [f"{1000 * value:.0f}" for value in (spread.p50, spread.p90)]
    return times + [f"{ratio:.2f}" for ratio in ratios]
