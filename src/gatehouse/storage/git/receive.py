"""Runs `git receive-pack` on a request that is on disk, and lets the hub judge it in quarantine.

Git's pre-receive hook asks over one inherited pipe and reads the verdict from another; the
post-receive hook tells which refs moved. All in one thread, from the start of git to its end.
"""

import fcntl
import logging
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gatehouse.core.errors import GatehouseError
from gatehouse.storage.git import program
from gatehouse.storage.git.errors import InvalidWire, RepositoryUnavailable
from gatehouse.storage.git.pkt_line import MAX_COMMANDS, parse_commands
from gatehouse.storage.git.push import PushCheck
from gatehouse.storage.git.push_conversation import converse
from gatehouse.storage.git.records import RefUpdate
from gatehouse.storage.git.ref_locks import break_stale_locks

logger = logging.getLogger(__name__)

# Room for `MAX_COMMANDS` commands with the longest ref names.
_MAX_COMMANDS_BYTES = MAX_COMMANDS * 1024
_MAX_ANSWER_BYTES = 16 * 1024 * 1024

# A POSIX shell can only name one-digit descriptors, and ours are where the system put them.
_RENUMBER = 'exec 8>"/dev/fd/$1" 9<"/dev/fd/$2"; shift 2; exec "$@"'
_FIRST_DESCRIPTOR = 10


@dataclass(frozen=True, slots=True)
class PushResult:
    """How a push ended.

    Attributes:
        answer: The body for the client, as git wrote it.
        moved: The refs that did move, already durable.
        refusal: Why the hub refused all of it, or None.
    """

    answer: bytes
    moved: tuple[RefUpdate, ...]
    refusal: GatehouseError | None


def receive(path: Path, request: IO[bytes], protocol: str | None, check: PushCheck) -> PushResult:
    """Apply the push in `request` to the repository at `path`, if `check` has nothing against it.

    `check` runs before any ref moves. A `GatehouseError` it raises refuses every ref and is shown
    to the pusher; any other exception refuses every ref too, and is raised again here.

    Raises:
        InvalidWire: The request is not a push.
        RepositoryUnavailable: Git could not be run.
    """
    if not parse_commands(request.read(_MAX_COMMANDS_BYTES)).updates:
        # The four bytes by which git asks whether it may send a large body (git's remote-curl.c).
        return PushResult(b"", (), None)
    # Git reads the descriptor itself, wherever our own buffer had got to.
    os.lseek(request.fileno(), 0, os.SEEK_SET)
    break_stale_locks(path)
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as complaints:
        with _running_git(path, protocol, request, answer, complaints) as running:
            process, questions, verdicts = running
            outcome = converse(path, questions, verdicts, check)
        _log_failure(path, process.returncode, complaints)
        return PushResult(_read_answer(answer, process.returncode), outcome.moved, outcome.refusal)


@contextmanager
def _running_git(
    path: Path, protocol: str | None, request: IO[bytes], answer: IO[bytes], complaints: IO[bytes]
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]]]:
    """Run git; yield it, the pipe of its hooks' questions, and the pipe for the verdict.

    The block's end closes the pipes, which refuses what was not accepted, and waits for git.
    """
    if not os.access(program.HOOKS_FOLDER / "pre-receive", os.X_OK):
        # Git would skip the hook, and let the push in unseen.
        raise RepositoryUnavailable("The pre-receive hook is not installed as a program.")
    arguments = program.command(
        *("-c", f"core.hooksPath={program.HOOKS_FOLDER}"),
        *("receive-pack", "--stateless-rpc", path),
    )
    with ExitStack() as stack:
        questions, git_asks = _open_pipe(stack)
        git_reads, verdicts = _open_pipe(stack)
        descriptors = (git_asks.fileno(), git_reads.fileno())
        with subprocess.Popen(  # noqa: S603 - the arguments are ours
            ["/bin/sh", "-c", _RENUMBER, "sh", *map(str, descriptors), *arguments],
            env=program.environment(protocol),
            stdin=request,
            stdout=answer,
            stderr=complaints,
            pass_fds=descriptors,
        ) as process:
            # Held open by us, git's ends would hide its death.
            git_asks.close()
            git_reads.close()
            try:
                yield process, questions, verdicts
            finally:
                questions.close()
                verdicts.close()


def _open_pipe(stack: ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    """The read and the write end of a pipe, closed with `stack` at the latest."""
    ends: list[IO[bytes]] = []
    for descriptor, mode in zip(os.pipe(), ("rb", "wb"), strict=True):
        high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST_DESCRIPTOR)
        os.close(descriptor)
        buffering = -1 if mode == "rb" else 0
        ends.append(stack.enter_context(os.fdopen(high, mode, buffering)))
    return ends[0], ends[1]


def _read_answer(answer: IO[bytes], returncode: int) -> bytes:
    size = answer.seek(0, os.SEEK_END)
    if size > _MAX_ANSWER_BYTES:
        raise RepositoryUnavailable("Git's answer to this push is too long.")
    if size == 0 and returncode != 0:
        raise InvalidWire("Git could not read this push.")
    answer.seek(0)
    return answer.read()


def _log_failure(path: Path, returncode: int, complaints: IO[bytes]) -> None:
    if returncode == 0:
        return
    complaints.seek(0)
    text = complaints.read(2000).decode("utf-8", "replace")
    logger.warning("git receive-pack in %s ended with %d: %s", path.name, returncode, text)
