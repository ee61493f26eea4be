"""How much longer a whole answer takes by way of the hub than from the engine itself."""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.figures import Spread, median_difference, show_bar, show_table
from benchmarks.inference.connections import HostSocket, HttpConnection, http_request
from benchmarks.inference.hub import INSTANT, Hub, Server

NUM_TOKENS = 20
_ADDED_MILLISECONDS = 1.5
_HIT_MILLISECONDS = 2.0
_WARM_UP = 20
_CPU_ROUNDS = 4


@dataclass
class _Way:
    """One way to get an answer, and how long it took each time."""

    name: str
    ask: Callable[[], object]
    server: Server | None = None
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: float = 0.0
    num_asked: int = 0

    def time(self) -> None:
        started = time.perf_counter()
        self.ask()
        self.seconds.append(time.perf_counter() - started)

    def spend(self, num_requests: int) -> None:
        """Ask so often in a row, and see what the server's worker takes."""
        assert self.server is not None
        before = self.server.cpu_seconds()
        for _ in range(num_requests):
            self.ask()
        self.cpu_seconds += self.server.cpu_seconds() - before
        self.num_asked += num_requests


def measure(hub: Hub, floor: Server, num_requests: int) -> None:
    """One request each way, in turn, `num_requests` times; then processor time, in turn too."""
    with HttpConnection(hub.port) as to_hub, HttpConnection(floor.port) as to_floor:
        ways = _measured(_ways(hub, floor, to_hub, to_floor), num_requests)
    _show(ways)


def _measured(ways: list[_Way], num_requests: int) -> list[_Way]:
    for way in ways:
        for _ in range(_WARM_UP):
            way.ask()
    for number in range(num_requests):
        # Each goes first as often as the others: what precedes a request may matter to it.
        start = number % len(ways)
        for way in ways[start:] + ways[:start]:
            way.time()
    for _ in range(_CPU_ROUNDS):
        for way in ways[1:]:
            way.spend(max(1, num_requests // _CPU_ROUNDS))
    return ways


def _ways(hub: Hub, floor: Server, to_hub: HttpConnection, to_floor: HttpConnection) -> list[_Way]:
    prompts = (f"Count the words, please: {number}." for number in itertools.count())
    path = hub.path(INSTANT)

    def body(prompt: str) -> bytes:
        parameters = {"max_new_tokens": NUM_TOKENS}
        return http_request(path, {"inputs": prompt, "parameters": parameters}, hub.token)

    before = set(hub.sockets.glob("host-*.sock"))
    to_hub.ask(body(next(prompts)))
    host = HostSocket(hub.host_socket(before))
    plain, kept = http_request("/", {"inputs": "x"}), body("the same each time")
    return [
        _Way("the engine, on its socket", lambda: host.ask(next(prompts), NUM_TOKENS)),
        _Way("a trivial application", lambda: to_floor.ask(plain), floor),
        _Way("the hub, new prompts", lambda: to_hub.ask(body(next(prompts))), hub),
        _Way("the hub, a cache hit", lambda: to_hub.ask(kept), hub),
    ]


def _show(ways: list[_Way]) -> None:
    engine, floor, miss, hit = ways
    num_requests = len(engine.seconds)
    show_table(
        f"Latency of a whole answer of {NUM_TOKENS} tokens, ms ({num_requests} of each, in turn)",
        ["asked", "p10", "median", "p90", "p99", "over engine", "of trivial", "CPU of worker"],
        [
            [
                way.name,
                *Spread.of(way.seconds).cells(1000),
                f"{1000 * median_difference(way.seconds, engine.seconds):+.2f}",
                f"{Spread.of(way.seconds).p50 / Spread.of(floor.seconds).p50:.2f}",
                f"{1000 * way.cpu_seconds / way.num_asked:.2f}" if way.num_asked else "",
            ]
            for way in ways
        ],
    )
    added = Spread.of(miss.seconds).p50 - Spread.of(engine.seconds).p50
    show_bar("added median latency", 1000 * added, "ms", _ADDED_MILLISECONDS)
    show_bar("cache hit, median", 1000 * Spread.of(hit.seconds).p50, "ms", _HIT_MILLISECONDS)
