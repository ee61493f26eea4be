"""Start the supervisor as a process of its own, tied to the life of the one that starts it."""

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from gatehouse.inference.lifecycle.supervisor import SupervisorOptions

_END_SECONDS = 10
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def default_memory_budget() -> int:
    """Bytes that models may take when nobody says: half of the memory there is."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(total, _container_limit() or total) // 2


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _container_limit() -> int | None:
    try:
        text = _CONTAINER_LIMIT.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


class TiedProcess:
    """A running module of ours, which serves until its standard input is closed.

    It ends with this object, and with this process however that dies.

    Args:
        module: What is run.
        options: Its argument, sent as JSON.
    """

    def __init__(self, module: str, options: msgspec.Struct) -> None:
        # It holds nothing but the read end of this pipe; the write end dies with us.
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", module, msgspec.json.encode(options).decode()],
            stdin=subprocess.PIPE,
            # Ctrl-C is for the server, which ends us when its workers are done.
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """End it and what it started, and wait until it is gone."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class SupervisorProcess(TiedProcess):
    """A running supervisor."""

    def __init__(self, options: SupervisorOptions) -> None:
        super().__init__("gatehouse.inference.lifecycle.supervisor", options)
