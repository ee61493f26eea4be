"""A running vLLM: started for a model, asked until it answers, ended with its host."""

import logging
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path

import httpx

from gatehouse.engines.base import RunnerUnsuited
from gatehouse.engines.process import descendants
from gatehouse.engines.text.harmless import harmless_reason
from gatehouse.engines.vllm.program import (
    COMPLETIONS,
    MODEL_NAME,
    SOCKET_NAME,
    ServeOptions,
    VllmProgram,
    serve_command,
    serve_environment,
)

_LOOK_SECONDS = 0.1
_ANSWER_SECONDS = 30.0
_END_SECONDS = 10.0
_KEPT_LINES = 400
_LONGEST_LINE = 2000
_FIRST = {"model": MODEL_NAME, "prompt": [0] * 8, "max_tokens": 2, "temperature": 0.0}
_ERROR = re.compile(r"\b(\w*(?:Error|Exception)): (.*\S)")
# Where it says that one of its processes failed, after that process has said why.
_FOLLOWS = "Engine core initialization failed"

_log = logging.getLogger(__name__)


class VllmNotStarted(RunnerUnsuited):
    """It ended before it answered; mostly it does not know the architecture."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"vLLM could not start with this model: {reason}")


class VllmProcess:
    """One vLLM for one model, with a folder for its socket that only we can enter.

    It runs under `keeper`, which ends it when this process goes, however that dies.
    """

    def __init__(
        self,
        program: VllmProgram,
        folder: Path,
        options: ServeOptions,
        environment: Mapping[str, str],
    ) -> None:
        private = Path(tempfile.mkdtemp(prefix="vllm-"))
        self.socket_path = private / SOCKET_NAME
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        command = serve_command(program, folder, private, options)
        keeper = [sys.executable, "-m", "gatehouse.engines.vllm.keeper", str(private)]
        kept_path = {name: environment[name] for name in ("PYTHONPATH",) if name in environment}
        self._keeper = subprocess.Popen(  # noqa: S603 - our own module, and an installed program
            keeper + command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=serve_environment(environment, program, private, options) | kept_path,
            start_new_session=True,
        )
        threading.Thread(target=self._listen, name="vllm-log", daemon=True).start()

    @property
    def pid(self) -> int:
        """Of the keeper, from which all the others descend."""
        return self._keeper.pid

    @property
    def is_running(self) -> bool:
        return self._keeper.poll() is None

    def wait_until_ready(self) -> int:
        """Wait until the model gives tokens; returns its context length.

        Raises:
            VllmNotStarted: It ended instead.
        """
        with self._connected() as client:
            while not (self._listens() and _answers(client)):
                if not self.is_running:
                    raise self._failure()
                time.sleep(_LOOK_SECONDS)
            listed = client.get("/v1/models").json()
            # What is only made ready by the first request takes seconds.
            if client.post(COMPLETIONS, json=_FIRST, timeout=None).status_code != 200:
                raise self._failure()
        return int(listed["data"][0]["max_model_len"])

    def is_well(self) -> bool:
        """Whether it still computes: what answers outlives what computes for a moment."""
        with self._connected() as client:
            return self._listens() and _answers(client)

    def memory_bytes(self) -> int:
        """What its processes hold that is no mapped file (Linux)."""
        return sum(_private_bytes(pid) for pid in descendants(self._keeper.pid))

    def says(self, text: str) -> bool:
        """Whether it has logged this lately."""
        return any(text in line for line in list(self._lines))

    def close(self) -> None:
        """End it, and wait until nothing of it is left."""
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        try:
            self._keeper.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()

    def _listens(self) -> bool:
        """Asked first: `httpx` leaves a socket open that could not be connected."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self.socket_path))
            except OSError:
                return False
        return True

    def _connected(self) -> httpx.Client:
        return httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.socket_path)),
            base_url="http://vllm",
            timeout=_ANSWER_SECONDS,
        )

    def _listen(self) -> None:
        assert self._keeper.stdout is not None
        with self._keeper.stdout as stream:
            for line in iter(lambda: stream.readline(_LONGEST_LINE), b""):
                self._lines.append(line.decode(errors="replace").rstrip())

    def _failure(self) -> VllmNotStarted:
        time.sleep(_LOOK_SECONDS)  # its last lines
        lines = list(self._lines)
        _log.error("vLLM ended while it started:\n%s", "\n".join(lines))
        return VllmNotStarted(failure_reason(lines))


def failure_reason(lines: Iterable[str]) -> str:
    """Why vLLM ended, from what it logged, with nothing of this machine in it."""
    found = [match for line in lines if (match := _ERROR.search(line))]
    told = [match[2] for match in found if _FOLLOWS not in match[2]]
    return harmless_reason(told[-1]) if told else "it ended without a reason."


def _private_bytes(pid: int) -> int:
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.HTTPError:
        return False
