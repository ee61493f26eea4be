"""A client in a process of its own that runs many programs: starting it takes longest."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import dedent
from typing import IO, Any

from stock_client import NODE_FOLDER, StockClient

_HERE = Path(__file__).parent
_PYTHON_PROGRAM = _HERE / "python" / "answer_programs.py"
_NODE_PROGRAM = NODE_FOLDER / "answer_programs.mjs"
_OLD_CLIENTS = Path(sys.prefix) / "clients"
_STOP_SECONDS = 10


class ClientError(AssertionError):
    """A program raised.

    Attributes:
        names: Classes of the error, the most special first.
        text: What it says.
        status: HTTP status of the answer that it was raised for, if the client tells.
        headers: Of that answer.
    """

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['names'][0]}: {error['text']}")
        self.names: list[str] = error["names"]
        self.text: str = error["text"]
        self.status: int | None = error.get("status")
        self.headers = {name.lower(): value for name, value in error.get("headers", {}).items()}

    @property
    def name(self) -> str:
        return self.names[0]


class ClientProcess:
    """Runs programs: bodies of functions, each in the names that `opening` made.

    Args:
        machine: Whose home and environment it has.
        command: What runs it.
        opening: What is run once, at the start.
    """

    def __init__(self, machine: StockClient, command: Sequence[str | Path], opening: str) -> None:
        variables = machine.variables
        self._errors_path = machine.home / "errors.txt"
        with self._errors_path.open("wb") as errors:
            self._process = subprocess.Popen(
                [*map(str, command), dedent(opening)],
                cwd=machine.home,
                env=variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def ask(self, program: str, **given: Any) -> Any:
        """What the program returns, as JSON.

        Raises:
            ClientError: It raised.
        """
        self._send(json.dumps({"program": dedent(program), "given": given}))
        line = _pipe(self._process.stdout).readline()
        assert line, self._errors_path.read_text()
        outcome = json.loads(line)
        if "error" in outcome:
            raise ClientError(outcome["error"])
        return outcome.get("value")

    def close(self) -> None:
        _pipe(self._process.stdin).close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _pipe(self._process.stdout).close()

    def _send(self, line: str) -> None:
        pipe = _pipe(self._process.stdin)
        pipe.write(f"{line}\n")
        pipe.flush()


# How tests start one; see the fixture `new_process`.
NewProcess = Callable[..., ClientProcess]


def python_process(
    machine: StockClient, opening: str, packages: str | None = None
) -> ClientProcess:
    """Python with the packages of our environment, or with those of `packages` alone."""
    if packages is None:
        return ClientProcess(machine, [sys.executable, _PYTHON_PROGRAM], opening)
    folder = _OLD_CLIENTS / packages
    assert folder.is_dir(), f"{folder} is missing: `make install-tests` makes it"
    machine.environment["PYTHONPATH"] = str(folder)
    # `-S`: without the packages of our environment.
    return ClientProcess(machine, [sys.executable, "-S", _PYTHON_PROGRAM], opening)


def node_process(machine: StockClient, opening: str) -> ClientProcess:
    """Node with the packages of the folder `node`."""
    return ClientProcess(machine, ["node", _NODE_PROGRAM], opening)


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
