"""What the hub and the hooks of one push say to each other, over two pipes.

The hooks (`hooks/`) write lines: the quarantine's folder, the updates asked for, an empty line;
then, once refs have moved, the updates that took place. The hub writes `accept` or `refuse`, and
below it what the pusher shall read. Both sides take silence for no.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gatehouse.core.errors import GatehouseError
from gatehouse.storage.git.errors import RepositoryUnavailable
from gatehouse.storage.git.pkt_line import parse_update
from gatehouse.storage.git.push import Push, PushCheck
from gatehouse.storage.git.records import RefUpdate
from gatehouse.storage.git.repository import GitRepository


@dataclass(frozen=True, slots=True)
class PushOutcome:
    """What became of the updates that a push asked for.

    Attributes:
        moved: The refs that did move, already durable.
        refusal: Why the hub refused all of them, or None.
    """

    moved: tuple[RefUpdate, ...] = ()
    refusal: GatehouseError | None = None


def converse(
    path: Path, questions: IO[bytes], verdicts: IO[bytes], check: PushCheck
) -> PushOutcome:
    """Answer the hooks of one run of git, until it closes its end of `questions`.

    Raises:
        Exception: What `check` raised, when it is no `GatehouseError`. Nothing was accepted, and
            nothing will be once the pipes are closed.
    """
    question = _read_question(questions)
    if question is None:
        # Git refused the pack, or every ref, by itself.
        return PushOutcome()
    quarantine, updates = question
    refusal = _judge(path, quarantine, updates, check)
    with suppress(BrokenPipeError):
        verdicts.write(b"accept\n" if refusal is None else _refuse(refusal))
    verdicts.close()
    reported = {parse_update(_text(line)) for line in questions}
    if refusal is not None:
        return PushOutcome(refusal=refusal)
    # A post-receive hook that could not run does not make the move undone.
    repository = GitRepository.open(path)
    moved = (u for u in updates if u in reported or repository.ref_target(u.ref) == u.new_oid)
    return PushOutcome(moved=tuple(moved))


def _read_question(questions: IO[bytes]) -> tuple[str, list[RefUpdate]] | None:
    quarantine = _text(questions.readline())
    updates: list[RefUpdate] = []
    for line in questions:
        if line == b"\n":
            return quarantine, updates
        updates.append(parse_update(_text(line)))
    return None


def _text(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape").removesuffix("\n")


def _judge(
    path: Path, quarantine: str, updates: list[RefUpdate], check: PushCheck
) -> GatehouseError | None:
    folder = Path(quarantine) if quarantine else None
    try:
        if folder is not None and folder.resolve().parent != (path / "objects").resolve():
            raise RepositoryUnavailable("Git's quarantine is not where it should be.")
        push = Push(path, updates, folder)
        push.check_names()
        check(push)
    except GatehouseError as refusal:
        return refusal
    return None


def _refuse(refusal: GatehouseError) -> bytes:
    """The verdict and its reason. Git puts `remote: ` before each line."""
    return f"refuse\n{refusal.message[:2000]}\n".encode("utf-8", "replace")
