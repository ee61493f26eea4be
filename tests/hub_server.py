"""A real `gatehouse serve` on a free loopback port, and people made with the command line.

Shared by the conformance and the browser tests. Knows nothing of what is inside the server.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_CSRF_FIELD = re.compile(r'name="csrf_token" value="([^"]*)"')
_GATEHOUSE = (str(Path(sys.executable).with_name("gatehouse")),)
# Several commands in one process: most of the time of each goes into starting.
_SEVERAL_COMMANDS = """
import json, sys
from gatehouse.cli.main import app
for command in json.loads(sys.argv[1]):
    if code := app(command, standalone_mode=False):
        sys.exit(code)
"""


class HubServer:
    """One data folder and the server on it, which can be killed and started again.

    The port stays the same over restarts, as clients remember addresses.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.data_dir = folder / "data"
        self.log_path = folder / "server.log"
        self.port = free_port()
        # As in `factories.Hub`: tests of other things than loading do not poll.
        self._settings = {"cold_model_wait_seconds": "60"} | settings
        self._process: psutil.Popen | None = None
        self._people: dict[str, Person] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def processes(self) -> list[psutil.Process]:
        """Every process of the server, hosts too."""
        return _family(self._process) if self._process is not None else []

    def start(self) -> None:
        """Start the server and return once it answers."""
        command = (*_GATEHOUSE, "serve", "--data-dir", str(self.data_dir), "--port", str(self.port))
        with self.log_path.open("ab") as log:
            self._process = psutil.Popen(
                command,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the server did not start:\n{self.log}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End the server as Ctrl-C does."""
        if self._process is None:
            return
        family = _family(self._process)
        self._process.terminate()
        _, alive = psutil.wait_procs(family, _STOP_SECONDS)
        _kill(alive)
        self._process = None

    def kill(self) -> None:
        """`kill -9` of every process of the server at once."""
        if self._process is not None:
            _kill(_family(self._process))
            self._process = None

    def kill_main_process(self) -> None:
        """`kill -9` of the one process that was started; the others must follow by themselves.

        Raises:
            AssertionError: One of them outlives it.
        """
        assert self._process is not None
        family = _family(self._process)
        self._process.kill()
        self._process.wait()
        _, alive = psutil.wait_procs(family, _STOP_SECONDS)
        self._process = None
        _kill(alive)
        assert not alive, alive

    def gatehouse(self, *arguments: str, stdin: str = "") -> str:
        """Run one command on the data folder; returns its standard output.

        Raises:
            AssertionError: It failed.
        """
        return self._run(*_GATEHOUSE, *arguments, "--data-dir", str(self.data_dir), stdin=stdin)

    def gatehouse_commands(self, *commands: tuple[str, ...], stdin: str = "") -> list[str]:
        """Run several commands one after the other; returns the lines of their standard output.

        Raises:
            AssertionError: One failed.
        """
        folder = ("--data-dir", str(self.data_dir))
        arguments = json.dumps([(*command, *folder) for command in commands])
        shown = self._run(sys.executable, "-c", _SEVERAL_COMMANDS, arguments, stdin=stdin)
        return shown.splitlines()

    def _run(self, *command: str, stdin: str) -> str:
        outcome = subprocess.run(
            command,
            env=self._environment(),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert outcome.returncode == 0, outcome.stderr
        return outcome.stdout.strip()

    def person(self, name: str, *options: str) -> "Person":
        """A user of this hub, made when first asked for; `options` as for `user create`."""
        if name not in self._people:
            email = f"{name}@example.com"
            read_token, write_token = self.gatehouse_commands(
                ("user", "create", name, "--email", email, "--password-stdin", *options),
                ("token", "create", "--user", name, "--name", "reading", "--role", "read"),
                ("token", "create", "--user", name, "--name", "writing", "--role", "write"),
                stdin=_password_of(name),
            )
            self._people[name] = Person(self, name, read_token, write_token)
        return self._people[name]

    def _environment(self) -> dict[str, str]:
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("GATEHOUSE_", "HF_", "COVERAGE_", "PYTEST_"))
        }
        given = {f"GATEHOUSE_{name.upper()}": value for name, value in self._settings.items()}
        return {**environment, **given}

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/api/models", timeout=5) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
            raise AssertionError(f"the server answers {error.code}:\n{self.log}") from None
        except OSError:
            return False


@dataclass(frozen=True)
class Person:
    """A user, their password, and a token of each role."""

    hub: HubServer = field(repr=False)
    name: str
    read_token: str = field(repr=False)
    write_token: str = field(repr=False)

    @property
    def password(self) -> str:
        return _password_of(self.name)

    @contextmanager
    def browser(self) -> Iterator[httpx.Client]:
        """A browser without scripts in which this person is signed in."""
        headers = {"Accept": "text/html"}
        with httpx.Client(base_url=self.hub.url, headers=headers, timeout=60) as browser:
            form = {"username": self.name, "password": self.password, "next": "/"}
            assert browser.post("/login", data=form).status_code == 303
            yield browser


def _password_of(name: str) -> str:
    return f"{name} likes long passwords"


def csrf_token(page: httpx.Response) -> str:
    """The hidden field of the forms on a page."""
    found = _CSRF_FIELD.search(page.text)
    assert found is not None, page.text
    return found[1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return [process]


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, _STOP_SECONDS)
