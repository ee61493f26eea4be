"""Whether tokens of many streams arrive when the engine gives them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.figures import Spread, show_bar, show_table
from benchmarks.inference.connections import HostSocket, HttpConnection, http_request
from benchmarks.inference.hub import STEADY, STEPS_PER_SECOND, Hub, Server
from benchmarks.inference.open_streams import OpenStreams

NUM_STREAMS = 32
# The engine's next step has come, and a reader cannot tell.
_IN_TIME_SECONDS = 1 / STEPS_PER_SECOND
_SHOWN_SECONDS = (_IN_TIME_SECONDS, 0.02, 0.05)
_BAR = 95.0


@dataclass(frozen=True)
class _Run:
    """Ages of all tokens on arrival, and what the server's worker took for them."""

    name: str
    ages: Sequence[float]
    cpu_seconds: float | None = None

    def share(self, seconds: float) -> float:
        """Percent of the tokens that were no older."""
        return 100 * sum(age <= seconds for age in self.ages) / len(self.ages)


def measure(hub: Hub, floor: Server, seconds: float, num_rounds: int) -> None:
    """All streams for some seconds each way, in turn, `num_rounds` times."""
    num_tokens = int(seconds * STEPS_PER_SECOND / num_rounds)
    parameters = {"max_new_tokens": num_tokens}
    body = {"inputs": "Say what comes.", "parameters": parameters, "stream": True}
    to_hub = http_request(hub.path(STEADY), body, hub.token)
    to_floor = http_request(f"/stream?rate={STEPS_PER_SECOND}&tokens={num_tokens}", {})
    host = _warm_host(hub)
    runs = [
        (
            _direct(host, num_tokens),
            _streamed("a trivial application", floor, to_floor),
            _streamed("the hub", hub, to_hub),
        )
        for _ in range(num_rounds)
    ]
    _show([_joined(same) for same in zip(*runs, strict=True)])


def _warm_host(hub: Hub) -> HostSocket:
    before = set(hub.sockets.glob("host-*.sock"))
    body = {"inputs": "Load.", "options": {"wait_for_model": True}}
    with HttpConnection(hub.port) as connection:
        connection.ask(http_request(hub.path(STEADY), body, hub.token))
    return HostSocket(hub.host_socket(before))


def _direct(host: HostSocket, num_tokens: int) -> _Run:
    """The same sequences, read from the engine's socket."""
    for _ in range(NUM_STREAMS):
        host.send("Say what comes.", num_tokens)
    ages: list[float] = []
    num_over = 0
    while num_over < NUM_STREAMS:
        outputs = host.receive()
        now = time.monotonic()
        for output in outputs:
            ages += [now - (generated.token.logprob or 0.0) for generated in output.tokens]
            num_over += output.is_last
    return _Run("the engine, on its socket", ages)


def _streamed(name: str, server: Server, request: bytes) -> _Run:
    before = server.cpu_seconds()
    streams = OpenStreams(server.port, request, NUM_STREAMS)
    streams.read_all()
    spent = server.cpu_seconds() - before
    streams.close()
    return _Run(name, [age for stream in streams.streams for age in stream.ages()], spent)


def _joined(runs: Sequence[_Run]) -> _Run:
    spent = [run.cpu_seconds for run in runs if run.cpu_seconds is not None]
    return _Run(
        runs[0].name, [age for run in runs for age in run.ages], sum(spent) if spent else None
    )


def _show(runs: Sequence[_Run]) -> None:
    shown = [f"≤ {1000 * seconds:g} ms" for seconds in _SHOWN_SECONDS]
    show_table(
        f"Age of tokens on arrival, ms: {NUM_STREAMS} streams of an engine with "
        f"{STEPS_PER_SECOND:g} steps a second ({len(runs[0].ages)} tokens each)",
        ["read from", "tokens", "p10", "median", "p90", "p99", *shown, "CPU µs a token"],
        [
            [
                run.name,
                str(len(run.ages)),
                *Spread.of(run.ages).cells(1000),
                *(f"{run.share(seconds):.1f} %" for seconds in _SHOWN_SECONDS),
                "" if run.cpu_seconds is None else f"{1e6 * run.cpu_seconds / len(run.ages):.0f}",
            ]
            for run in runs
        ],
    )
    hub = runs[-1]
    show_bar(
        "tokens in time (within one step)", hub.share(_IN_TIME_SECONDS), "%", _BAR, at_least=True
    )
