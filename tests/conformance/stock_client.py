"""Run a client program as its users do: a fresh process, a home of its own, two variables set.

A program is Python or JavaScript text as a person would write it; what it prints last is JSON.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

from hub_server import HubServer

NODE_FOLDER = Path(__file__).with_name("node")
_TIMEOUT = 180
_KEPT = ("PATH", "LANG", "TMPDIR", "TERM")


class ProgramFailed(AssertionError):
    """A client program ended badly.

    Attributes:
        name: Class of the error that ended it, when it is Python.
    """

    def __init__(self, outcome: subprocess.CompletedProcess[str]) -> None:
        super().__init__(f"exit code {outcome.returncode}\n{outcome.stdout}\n{outcome.stderr}")
        self.output = outcome.stdout
        self.errors = outcome.stderr
        self.code = outcome.returncode

    @property
    def name(self) -> str:
        """Class of the uncaught error, without its module."""
        for line in reversed(self.errors.splitlines()):
            head = line.partition(":")[0]
            if head.endswith(("Error", "Exception")) and " " not in head:
                return head.rpartition(".")[2]
        return ""


@dataclass(frozen=True)
class StockClient:
    """One machine with the stock clients on it, pointed at a hub.

    Attributes:
        home: Its home folder; holds every cache.
        token: What HF_TOKEN is set to; None for anonymous.
        environment: More variables.
    """

    hub: HubServer
    home: Path
    token: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    endpoint: str | None = None

    @property
    def variables(self) -> dict[str, str]:
        self.home.mkdir(parents=True, exist_ok=True)
        given = {key: os.environ[key] for key in _KEPT if key in os.environ}
        given |= {
            "HOME": str(self.home),
            "HF_HOME": str(self.home / "huggingface"),
            "HF_ENDPOINT": self.endpoint or self.hub.url,
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_NOSYSTEM": "1",
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        if self.token is not None:
            given["HF_TOKEN"] = self.token
        return given | self.environment

    def run(
        self, *command: str | Path, cwd: Path | None = None, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run any program in this home, whatever it answers."""
        self.home.mkdir(parents=True, exist_ok=True)
        return subprocess.run(
            [str(part) for part in command],
            cwd=cwd or self.home,
            env=self.variables,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT,
        )

    def check(self, *command: str | Path, cwd: Path | None = None, stdin: str | None = None) -> str:
        """Run a program that must succeed; returns its standard output.

        Raises:
            ProgramFailed: It did not.
        """
        outcome = self.run(*command, cwd=cwd, stdin=stdin)
        if outcome.returncode:
            raise ProgramFailed(outcome)
        return outcome.stdout

    def python(self, program: str, *arguments: str | Path) -> Any:
        """Run a Python program; returns the JSON of the last line it printed, if any."""
        return _last_json(self.check(sys.executable, "-c", dedent(program), *arguments))

    def node(self, program: str, *arguments: str | Path) -> Any:
        """Run a JavaScript module of the folder `node`; returns the JSON of its last line."""
        return _last_json(self.check("node", NODE_FOLDER / program, *arguments))

    def start_python(self, program: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
        """Start a Python program and leave it running; its output can be read."""
        return subprocess.Popen(
            [sys.executable, "-c", dedent(program), *map(str, arguments)],
            cwd=self.home,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )


def _last_json(output: str) -> Any:
    lines = output.strip().splitlines()
    return json.loads(lines[-1]) if lines else None
