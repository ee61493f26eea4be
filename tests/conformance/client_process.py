"""A client in a process of its own that runs many programs: starting it takes longest."""

import json
import subprocess
import sys
from collections.abc import Callable, Hashable, Sequence
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


class _Process:
    """A running client; takes a line of JSON and gives one."""

    def __init__(self, machine: StockClient, command: Sequence[str | Path]) -> None:
        variables = machine.variables
        self._errors_path = machine.home / "errors.txt"
        with self._errors_path.open("wb") as errors:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                cwd=machine.home,
                env=variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        pipe = _pipe(self._process.stdin)
        pipe.write(f"{json.dumps(question)}\n")
        pipe.flush()
        line = _pipe(self._process.stdout).readline()
        assert line, self._errors_path.read_text()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        _pipe(self._process.stdin).close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _pipe(self._process.stdout).close()


class ClientProcess:
    """Runs programs: bodies of functions, each in the names that `opening` made.

    Other openings may be run in the same process; none sees another's names.
    """

    def __init__(self, process: _Process, opening: str) -> None:
        self._process = process
        self._opening = dedent(opening)

    def ask(self, program: str, **given: Any) -> Any:
        """What the program returns, as JSON.

        Raises:
            ClientError: It raised.
        """
        outcome = self._process.ask(
            {"opening": self._opening, "program": dedent(program), "given": given}
        )
        if "error" in outcome:
            raise ClientError(outcome["error"])
        return outcome.get("value")


# How tests start one; see the fixture `new_process`.
NewProcess = Callable[..., ClientProcess]


def python_process(machine: StockClient, packages: str | None = None) -> _Process:
    """Python with the packages of our environment, or with those of `packages` alone."""
    if packages is None:
        return _Process(machine, [sys.executable, _PYTHON_PROGRAM])
    folder = _OLD_CLIENTS / packages
    assert folder.is_dir(), f"{folder} is missing: `make install-tests` makes it"
    machine.environment["PYTHONPATH"] = str(folder)
    # `-S`: without the packages of our environment.
    return _Process(machine, [sys.executable, "-S", _PYTHON_PROGRAM])


def node_process(machine: StockClient) -> _Process:
    """Node with the packages of the folder `node`."""
    return _Process(machine, ["node", _NODE_PROGRAM])


class Processes:
    """Every process of a test session: those that are alike are one."""

    def __init__(self, make_machine: Callable[[str | None, dict[str, str]], StockClient]) -> None:
        self._make_machine = make_machine
        self._processes: dict[Hashable, _Process] = {}

    def start(
        self,
        make: Callable[..., _Process],
        token: str | None,
        opening: str,
        packages: str | None = None,
        **variables: str,
    ) -> ClientProcess:
        """A client on a machine of its own, whose HF_TOKEN is `token`."""
        key = (make, token, packages, tuple(sorted(variables.items())))
        if key not in self._processes:
            machine = self._make_machine(token, variables)
            arguments = [packages] if packages is not None else []
            self._processes[key] = make(machine, *arguments)
        return ClientProcess(self._processes[key], opening)

    def close(self) -> None:
        for process in self._processes.values():
            process.close()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
