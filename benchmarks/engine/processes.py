"""The worker processes as seen from outside: started, asked, and ended."""

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.engine.workloads import Answer, Times, Workload
from gatehouse.engines.process import compute_environment

_ROOT = Path(__file__).parents[2]
_LONGEST_SECONDS = 1800.0


class WorkerBroke(Exception):
    """An engine's process ended, or did not answer."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What it took to load a model, before any request."""

    seconds: float
    cpu_seconds: float
    anonymous_bytes: int
    peak_bytes: int
    versions: dict[str, str]


class Family:
    """A process and its descendants: some engines compute in processes of their own."""

    def __init__(self, process_id: int) -> None:
        self._head = psutil.Process(process_id)

    def cpu_seconds(self) -> float:
        times = [process.cpu_times() for process in self._members()]
        return float(sum(one.user + one.system for one in times))

    def memory_bytes(self) -> tuple[int, int]:
        """What is theirs alone now, and the most that each had with mapped files, added."""
        statuses = [_status(process.pid) for process in self._members()]
        return sum(one["RssAnon"] for one in statuses), sum(one["VmHWM"] for one in statuses)

    def _members(self) -> list[psutil.Process]:
        return [self._head, *self._head.children(recursive=True)]


class Worker:
    """One engine with one model in a process of its own, and those that it starts."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log
        self._family = Family(process.pid)
        versions: dict[str, str] = self._read()["versions"]
        before = self._family.cpu_seconds()
        seconds: float = self._read()["seconds"]
        cpu_seconds = self._family.cpu_seconds() - before
        anonymous, peak = self._family.memory_bytes()
        self.loaded = Loaded(seconds, cpu_seconds, anonymous, peak, versions)

    def run(self, workload: Workload) -> Answer:
        """Run a workload while nobody else of ours works.

        Raises:
            WorkerBroke: It gave no answer.
        """
        requests = [asdict(request) for request in workload.requests]
        command = {"in_flight": workload.in_flight, "requests": requests}
        assert self._process.stdin is not None
        before, busy_before = self._family.cpu_seconds(), _busy_seconds()
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerBroke(self._last_words()) from None
        fields = self._read()
        cpu_seconds = self._family.cpu_seconds() - before
        others = max(0.0, _busy_seconds() - busy_before - cpu_seconds)
        share = others / (fields["seconds"] * (psutil.cpu_count() or 1))
        streams = tuple(
            Times(stream["arrived"], tuple(stream["times"]), tuple(stream["token_ids"]))
            for stream in fields["streams"]
        )
        memory = self._family.memory_bytes()
        return Answer(fields["seconds"], cpu_seconds, min(1.0, share), *memory, streams)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        alarm = threading.Timer(_LONGEST_SECONDS, self._process.kill)
        alarm.start()
        line = self._process.stdout.readline()
        alarm.cancel()
        if not line:
            raise WorkerBroke(self._last_words())
        fields: dict[str, Any] = json.loads(line)
        return fields

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "It said nothing."


@contextmanager
def running_worker(command: Sequence[str], num_threads: int) -> Iterator[Worker]:
    """A process with its engine loaded, in the environment that our own hosts have.

    Raises:
        WorkerBroke: It does not load.
    """
    environment = compute_environment(os.environ) | {
        "OMP_NUM_THREADS": str(num_threads),
        "PYTHONPATH": str(_ROOT),
    }
    with tempfile.NamedTemporaryFile(prefix="engine", suffix=".log") as log:
        process = subprocess.Popen(  # noqa: S603 - our own words
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            yield Worker(process, Path(log.name))
        finally:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.communicate()


def _busy_seconds() -> float:
    """What all processes of the machine have taken of its processors."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def _status(process_id: int) -> dict[str, int]:
    """The sizes that Linux tells of a process, in bytes; zeros where there is no such thing."""
    sizes = {"RssAnon": 0, "VmHWM": 0}
    path = Path(f"/proc/{process_id}/status")
    for line in path.read_text().splitlines() if path.exists() else ():
        name, _, rest = line.partition(":")
        if name in sizes:
            sizes[name] = int(rest.split()[0]) * 1024
    return sizes
