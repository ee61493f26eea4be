"""Runs a program, and ends it and all that it started when our standard input is closed.

vLLM's own children outlive it when it is killed; of these none outlives us. Run as `python -m
gatehouse.engines.vllm.keeper FOLDER COMMAND…`; FOLDER is removed at the end.
"""

import contextlib
import ctypes
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

from gatehouse.engines.process import descendants, follow_parent

_PR_SET_CHILD_SUBREAPER = 36


def keep(folder: Path, command: list[str]) -> int:
    """Run a command until it ends or nobody wants it any more; returns its exit status."""
    ended, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    _adopt_orphans()
    try:
        with _start(command) as process:
            while process.poll() is None:
                readable, _, _ = select.select([sys.stdin, ended], [], [])
                if ended in readable:
                    ended.recv(4096)
                elif not os.read(sys.stdin.fileno(), 1):
                    break
            _end_all()
        return process.returncode
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.Popen(  # noqa: S603 - what an administrator installed
        command,
        stdin=subprocess.DEVNULL,
        env=environment,
        # One thread runs here, so nothing can be held that the child would wait for.
        preexec_fn=partial(_prepare, os.getpid()),
    )


def _prepare(parent_pid: int) -> None:
    """In the child: die with the parent; take the memory that our host was denied."""
    follow_parent(parent_pid)
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _adopt_orphans() -> None:
    """Whatever loses its parent below us becomes our own child (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_all() -> None:
    """Kill our children until there are none: those that they leave become ours."""
    while children := descendants(os.getpid())[1:]:
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


if __name__ == "__main__":
    sys.exit(keep(Path(sys.argv[1]), sys.argv[2:]))
