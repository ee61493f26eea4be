"""The process that keeps one engine with one model and runs what it is told.

Answers in JSON lines: one when the imports are done, one when the model is loaded, then one for
each line of input, with what its requests got. Uses the standard library alone, since it runs in
the environments of other engines too.
"""

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TextIO


class Token(NamedTuple):
    """A token that an engine gave.

    Attributes:
        number: Of its request.
        at: When it was there, by `time.perf_counter`.
    """

    number: int
    token_id: int
    at: float


class Engine(Protocol):
    """What is measured: greedy, and to the length asked for."""

    def add(self, number: int, prompt: Sequence[int], num_tokens: int) -> None: ...

    def step(self) -> Iterable[Token]:
        """Do a piece of the work. Tokens beyond the length asked for are not counted."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt, how many tokens to give, and when it comes.

    Attributes:
        at: In seconds from the beginning.
        after: Not before so many tokens were given to all together.
    """

    prompt: tuple[int, ...]
    num_tokens: int
    at: float = 0.0
    after: int = 0


@dataclass(slots=True)
class Stream:
    """What a request got, in seconds from the beginning."""

    arrived: float
    num_wanted: int
    times: list[float] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)


class Run:
    """One set of requests on its way through an engine, at most `in_flight` at a time."""

    def __init__(self, engine: Engine, requests: Iterable[Request], in_flight: int) -> None:
        self._engine = engine
        self._waiting = deque(enumerate(requests))
        self._in_flight = in_flight
        self._running: set[int] = set()
        self._num_given = 0
        self._started = 0.0
        self.streams: list[Stream] = []

    def drive(self) -> float:
        """Run all of them; returns the seconds it took."""
        self._started = time.perf_counter()
        while self._waiting or self._running:
            self._let_in()
            if self._running:
                self._take(self._engine.step())
            else:
                time.sleep(max(0.0, self._waiting[0][1].at - self._now()))
        return self._now()

    def _now(self) -> float:
        return time.perf_counter() - self._started

    def _let_in(self) -> None:
        while self._waiting and len(self._running) < self._in_flight:
            number, request = self._waiting[0]
            if request.at > self._now() or request.after > self._num_given:
                return
            self._waiting.popleft()
            # One that came during a step has waited for its end.
            arrived = request.at or self._now()
            self.streams.append(Stream(arrived, request.num_tokens))
            self._running.add(number)
            self._engine.add(number, request.prompt, request.num_tokens)

    def _take(self, tokens: Iterable[Token]) -> None:
        for token in tokens:
            stream = self.streams[token.number]
            if len(stream.times) < stream.num_wanted:
                stream.times.append(token.at - self._started)
                stream.token_ids.append(token.token_id)
                self._num_given += 1
            if len(stream.times) == stream.num_wanted:
                self._running.discard(token.number)


def serve(load: Callable[[Path, int], Engine], packages: Sequence[str]) -> None:
    """Load the model that the command line names, and run what comes on standard input.

    Args:
        load: Imports are done: takes the model's folder and the number of threads.
        packages: Whose versions are told.
    """
    answers = _own_output()
    _answer(answers, {"versions": {name: version(name) for name in packages}})
    folder, num_threads = Path(sys.argv[1]), int(sys.argv[2])
    started = time.perf_counter()
    engine = load(folder, num_threads)
    _answer(answers, {"seconds": time.perf_counter() - started})
    for line in sys.stdin:
        command = json.loads(line)
        requests = [_request(fields) for fields in command["requests"]]
        run = Run(engine, requests, command["in_flight"])
        seconds = run.drive()
        streams = [
            {"arrived": stream.arrived, "times": stream.times, "token_ids": stream.token_ids}
            for stream in run.streams
        ]
        _answer(answers, {"seconds": seconds, "streams": streams})


def _own_output() -> TextIO:
    """Standard output for us alone: what libraries print goes to standard error."""
    own = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return own


def _answer(answers: TextIO, fields: dict[str, Any]) -> None:
    answers.write(json.dumps(fields) + "\n")
    answers.flush()


def _request(fields: dict[str, Any]) -> Request:
    return Request(**fields | {"prompt": tuple(fields["prompt"])})
