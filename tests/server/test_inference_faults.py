"""Processes that run models are killed while two workers of a server use them."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import psutil
import pytest
from hub_server import HubServer

from gatehouse.core.settings import Settings
from gatehouse.db.engine import Database
from gatehouse.migrations.upgrade import upgrade
from gatehouse.server.demo import DEMO_MODEL, Demo, prepare_demo
from gatehouse.server.services import build_services

ADDRESS = f"/models/{DEMO_MODEL}"
SHORT = {"inputs": "Once upon a time", "parameters": {"max_new_tokens": 4}}
LONG = {"inputs": "Once upon a time", "parameters": {"max_new_tokens": 200}, "stream": True}


@dataclass
class Served:
    """A server with the demo's model, and somebody who may run it."""

    server: HubServer
    demo: Demo

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.demo.member.token}", "x-use-cache": "0"}

    def ask(self) -> httpx.Response:
        url = self.server.url + ADDRESS
        return httpx.post(url, json=SHORT, headers=self.headers, timeout=120)

    def processes(self, module: str) -> list[psutil.Process]:
        """Those that run a module of ours; a host bears the name of what it was forked from."""
        found = []
        for process in self.server.processes():
            try:
                if module in process.cmdline():
                    found.append(process)
            except psutil.Error:
                continue
        return found

    @property
    def host(self) -> psutil.Process:
        fork_servers = self.processes("gatehouse.engines.fork_server")
        numbers = {process.pid for process in fork_servers}
        (host,) = (process for process in fork_servers if process.ppid() in numbers)
        return host

    @contextmanager
    def stream(self) -> Iterator[Iterator[str]]:
        """A long answer, of which the first event has been read."""
        url = self.server.url + ADDRESS
        with httpx.stream("POST", url, json=LONG, headers=self.headers, timeout=120) as answer:
            lines = (line for line in answer.iter_lines() if line.startswith("data:"))
            assert "token" in json.loads(next(lines).removeprefix("data:"))
            yield lines


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    server = HubServer(tmp_path_factory.mktemp("faults"), workers="2")
    server.data_dir.mkdir(parents=True)
    settings = Settings(data_dir=server.data_dir)
    database = Database(settings.resolved_database_url())
    upgrade(database)
    services = build_services(settings, database)
    demo = prepare_demo(services)
    services.response_cache.close()
    services.ledger.close()
    database.dispose()
    server.start()
    yield Served(server, demo)
    server.stop()


def test_pinned_model_is_loaded_before_anybody_asks(served: Served) -> None:
    url = f"{served.server.url}{ADDRESS}"
    deadline = time.monotonic() + 60
    while httpx.get(url, headers=served.headers).json()["state"] != "Loaded":
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_killed_host_fails_what_ran_and_serves_what_comes(served: Served) -> None:
    expected = served.ask().json()
    with served.stream() as lines:
        served.host.kill()
        *_, last = lines
    assert json.loads(last.removeprefix("data:")) == {
        "error": "Incomplete generation",
        "error_type": "incomplete_generation",
    }
    answers = [served.ask() for _ in range(4)]
    assert [answer.json() for answer in answers] == [expected] * 4


def test_killed_supervisor_is_replaced_with_all_that_hung_on_it(served: Served) -> None:
    expected = served.ask().json()
    (supervisor,) = served.processes("gatehouse.inference.lifecycle.supervisor")
    host = served.host
    supervisor.kill()
    psutil.wait_procs([supervisor, host], 10)
    assert not host.is_running()
    assert served.ask().json() == expected


def test_killed_fork_server_is_replaced_too(served: Served) -> None:
    expected = served.ask().json()
    psutil.Process(served.host.ppid()).kill()
    deadline = time.monotonic() + 60
    while (answer := served.ask()).status_code == 500:
        assert answer.json()["error_type"] == "incomplete_generation"
        assert time.monotonic() < deadline
    assert answer.json() == expected
