"""The processes of `gatehouse serve`: they start alone, stop together and mend themselves."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
from hub_server import free_port


class Serve:
    """One `gatehouse serve`, as a shell would start it."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.log = folder / "log"
        self.command = [
            str(Path(sys.executable).with_name("gatehouse")),
            *("serve", "--data-dir", str(folder / "data"), "--port", str(self.port)),
        ]
        with self.log.open("wb") as log:
            self.process = psutil.Popen(
                self.command, stdout=log, stderr=log, start_new_session=True
            )
        until(self.answers, "the server answers")

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                return True
        except OSError:
            return False

    def supervisors(self) -> list[psutil.Process]:
        return [child for child in self.process.children() if is_supervisor(child)]

    def end(self) -> None:
        with suppress(psutil.NoSuchProcess):
            family = self.process.children(recursive=True)
            self.process.kill()
            psutil.wait_procs(family, 10)
        self.process.wait(10)


def is_supervisor(process: psutil.Process) -> bool:
    try:
        return "gatehouse.inference.lifecycle.supervisor" in process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    serve = Serve(tmp_path)
    yield serve
    serve.end()


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_stops_everything(serve: Serve, number: int) -> None:
    family = serve.process.children(recursive=True)
    assert len(family) >= 2
    os.killpg(serve.process.pid, number)
    assert serve.process.wait(30) == 0
    _, alive = psutil.wait_procs(family, 15)
    assert alive == []


def test_nothing_outlives_a_killed_server(serve: Serve) -> None:
    family = serve.process.children(recursive=True)
    serve.process.kill()
    _, alive = psutil.wait_procs(family, 15)
    assert alive == []


def test_a_second_server_on_the_port_says_so_and_ends(serve: Serve) -> None:
    second = subprocess.run(serve.command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode != 0
    assert f"127.0.0.1:{serve.port} is taken" in second.stderr
    assert serve.answers()


def test_a_killed_supervisor_is_started_again(serve: Serve) -> None:
    until(lambda: len(serve.supervisors()) == 1, "there is a supervisor")
    first = serve.supervisors()[0]
    first.kill()
    until(lambda: [p.pid for p in serve.supervisors()] not in ([], [first.pid]), "there is another")
    assert serve.answers()


def test_idle_connections_keep_nobody_out(serve: Serve) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    with ExitStack() as idle:
        for _ in range(1100):
            address = ("127.0.0.1", serve.port)
            idle.enter_context(socket.create_connection(address, timeout=10))
        assert serve.answers()
