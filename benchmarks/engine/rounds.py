"""Lets the engines take turns, and keeps what each answered."""

import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rich.console import Console

from benchmarks.engine import workloads
from benchmarks.engine.checkpoints import read_through
from benchmarks.engine.engines import Contender, EngineName
from benchmarks.engine.processes import Loaded, Worker, WorkerBroke, running_worker
from benchmarks.engine.shapes import Shape
from benchmarks.engine.workloads import Answer, Prompts, Workload

_console = Console(stderr=True, highlight=False, width=150)

Make = Callable[[Prompts], Workload]

# Threads of an engine may go on spinning for a while after its last answer (vLLM's do).
_REST_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure of one shape.

    Attributes:
        parts: Names of the parts; see README.
        concurrencies: Requests in flight on the curve; the last is measured in every round.
    """

    parts: frozenset[str]
    concurrencies: tuple[int, ...]
    num_rounds: int
    num_threads: int


@dataclass
class Results:
    """Of one shape: what was loaded, and by part and engine the answers, round by round."""

    shape: Shape
    plan: Plan
    loaded: dict[EngineName, Loaded] = field(default_factory=dict)
    answers: dict[tuple[str, EngineName], list[Answer]] = field(
        default_factory=lambda: defaultdict(list)
    )
    bandwidth: float = 0.0

    def of(self, part: str, name: EngineName) -> list[Answer]:
        return self.answers.get((part, name), [])

    def rates(self, part: str, name: EngineName, measure: workloads.Measure) -> list[float]:
        return workloads.measured(measure, self.of(part, name))


def at_once(in_flight: int) -> str:
    """The name of the part with so many requests in flight."""
    return f"{in_flight} at once"


class Race:
    """Engines with one shape, of which one works at a time."""

    def __init__(self, shape: Shape, plan: Plan, contenders: Sequence[Contender]) -> None:
        self._contenders = {contender.name: contender for contender in contenders}
        self._workers: dict[EngineName, Worker] = {}
        self._prompts = Prompts(shape.vocab_size)
        self.results = Results(shape, plan)

    def run(self, checkpoint: Path, environments: Path) -> Results:
        """Load every engine, then let them take turns. One that breaks is left out."""
        plan = self.results.plan
        with ExitStack() as processes:
            for contender in self._contenders.values():
                self._load(contender, checkpoint, environments, processes)
            self._warm_up()
            for number in range(plan.num_rounds):
                self._round(number)
            self._once()
        return self.results

    def _load(
        self, contender: Contender, checkpoint: Path, environments: Path, processes: ExitStack
    ) -> None:
        threads = self.results.plan.num_threads
        try:
            command = contender.command_line(checkpoint, environments, threads)
            read_through(Path(command[-2]))
            worker = processes.enter_context(running_worker(command, threads))
        except subprocess.CalledProcessError as error:
            _console.print(f"{contender.label}: {error.cmd} failed; it is left out.")
        except WorkerBroke as error:
            _console.print(f"{contender.label} does not load, and is left out: {error}")
        else:
            self._workers[contender.name] = worker
            self.results.loaded[contender.name] = worker.loaded

    def _warm_up(self) -> None:
        for _ in range(2):
            self._turn("warm-up", workloads.warm_up, 0)
        self.results.answers.clear()

    def _round(self, number: int) -> None:
        """The parts of every round."""
        plan = self.results.plan
        if "single" in plan.parts:
            self.results.bandwidth = max(self.results.bandwidth, _bandwidth(plan.num_threads))
        many = plan.concurrencies[-1]
        parts: dict[str, Make] = {
            "single": workloads.single,
            "first": workloads.first,
            "all-at-once": lambda prompts: workloads.all_at_once(prompts, many),
            "gaps": workloads.gaps,
        }
        for part, make in parts.items():
            if part in plan.parts:
                self._turn(at_once(many) if part == "all-at-once" else part, make, number)

    def _once(self) -> None:
        """The long parts."""
        plan = self.results.plan
        if "curve" in plan.parts:
            for in_flight in plan.concurrencies[:-1]:
                self._turn(at_once(in_flight), _at_once_maker(in_flight), in_flight)
        if "poisson" in plan.parts:
            self._poisson(at_once(plan.concurrencies[-1]))
        if "prefix" in plan.parts:
            self._turn("prefix, own", workloads.own_prefix, 0)
            self._turn("prefix, shared", workloads.shared_prefix, 0)

    def _poisson(self, part: str) -> None:
        for name in list(self._workers):
            if answers := self.results.of(part, name):
                capacity = median(workloads.measured(workloads.throughput, answers))
                rate = capacity * workloads.LOAD_OF_CAPACITY
                workload = workloads.poisson(self._prompts, rate)
                self._ask("poisson", name, workload)

    def _turn(self, part: str, make: Make, number: int) -> None:
        """Each engine once, with the same requests; who goes first changes."""
        workload = make(self._prompts)
        kind = part.partition(",")[0]
        turns = [name for name in self._workers if kind not in self._contenders[name].skips]
        start = number % max(1, len(turns))
        for name in turns[start:] + turns[:start]:
            self._ask(part, name, workload)

    def _ask(self, part: str, name: EngineName, workload: Workload) -> None:
        label = self._contenders[name].label
        time.sleep(_REST_SECONDS)
        try:
            answer = self._workers[name].run(workload)
        except WorkerBroke as error:
            _console.print(f"{label} broke, and is left out from here: {error}")
            del self._workers[name]
            return
        self.results.answers[part, name].append(answer)
        rate = workloads.throughput(answer)
        _console.print(
            f"{self.results.shape.name} {part}, {label}: {rate:.1f} tokens/s in "
            f"{answer.seconds:.1f} s, CPU {answer.cpu_seconds:.1f} s, others {answer.others:.0%}"
        )


def _at_once_maker(in_flight: int) -> Make:
    return lambda prompts: workloads.all_at_once(prompts, in_flight)


def _bandwidth(num_threads: int) -> float:
    command = [sys.executable, "-m", "benchmarks.engine.bandwidth", str(num_threads)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(  # noqa: S603 - our own words
        command, check=True, capture_output=True, env=environment
    )
    return float(done.stdout)
