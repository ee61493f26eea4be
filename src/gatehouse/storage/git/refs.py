"""Finds what a revision means, and moves refs by compare-and-swap under git's own ref locks."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pygit2

from gatehouse.core.ids import is_oid
from gatehouse.storage.git.errors import InvalidRef, RefLocked, RefMoved, RefNameTaken
from gatehouse.storage.git.records import Ref
from gatehouse.storage.git.ref_locks import STALE_AFTER_SECONDS, break_stale_locks
from gatehouse.storage.git.ref_names import check_oid, check_ref_name, is_served, is_wellformed

# Long enough to outlive a lock whose holder was killed a moment ago.
LOCK_PATIENCE_SECONDS = STALE_AFTER_SECONDS + 2.0

_ABBREVIATED = re.compile(r"[0-9a-f]{7,39}")


def resolve(repository: Any, revision: str) -> str | None:
    """The commit oid that `revision` names, or None.

    In this order: `HEAD`, a full served ref name, a full commit oid, a branch, a tag, a unique
    beginning of a commit oid of at least 7 digits. A full oid comes before branches, as in git, so
    that no branch can stand in for a commit that somebody pinned. There is no other syntax.
    """
    if revision == "HEAD":
        return None if repository.head_is_unborn else _peel(repository.head)
    if is_served(revision):
        return _resolve_ref(repository, revision)
    folded = revision.lower()
    if is_oid(folded):
        commit = repository.get(folded)
        if isinstance(commit, pygit2.Commit):
            return str(commit.id)
    for prefix in ("refs/heads/", "refs/tags/"):
        oid = _resolve_ref(repository, prefix + revision)
        if oid is not None:
            return oid
    return _expand(repository, folded) if _ABBREVIATED.fullmatch(folded) else None


def _resolve_ref(repository: Any, ref: str) -> str | None:
    if not is_wellformed(ref):
        return None
    try:
        return _peel(repository.lookup_reference(ref))
    except KeyError:
        return None


def _peel(reference: Any) -> str | None:
    """The commit behind a reference; None for a tag of a tree or blob."""
    try:
        return str(reference.peel(pygit2.Commit).id)
    except (pygit2.GitError, ValueError, KeyError):
        return None


def peel_oid(repository: Any, oid: str) -> str | None:
    """The commit that the object `oid` is or, for an annotated tag, leads to; else None."""
    target = repository.get(oid) if is_oid(oid) else None
    if target is None:
        return None
    try:
        return str(target.peel(pygit2.Commit).id)
    except (pygit2.GitError, ValueError, KeyError):
        return None


def _expand(repository: Any, prefix: str) -> str | None:
    try:
        commit = repository.get(prefix)
    except ValueError:  # ambiguous
        return None
    return str(commit.id) if isinstance(commit, pygit2.Commit) else None


def list_refs(repository: Any) -> list[Ref]:
    """Every served ref, sorted by name."""
    refs = [
        Ref(reference.name, str(reference.resolve().target))
        for reference in repository.references.iterator()
        if is_served(reference.name)
    ]
    return sorted(refs, key=lambda ref: ref.name)


def update(repository: Any, path: Path, ref: str, new_oid: str, expected_oid: str | None) -> None:
    """Move `ref` to `new_oid` if it is at `expected_oid` (None: if it does not exist).

    Atomic against every other writer, `git receive-pack` too, and on disk when it returns.

    Raises:
        RefMoved: `ref` is elsewhere; nothing changed.
        RefNameTaken: Another ref is in the way, as `a` is for `a/b`.
        RefLocked: Somebody kept the lock for too long.
        InvalidRef: The name is not allowed, or `new_oid` is not a commit (or, for a tag, a tag).
    """
    check_ref_name(ref)
    target = repository.get(check_oid(new_oid))
    kinds = (pygit2.Commit, pygit2.Tag) if ref.startswith("refs/tags/") else pygit2.Commit
    if not isinstance(target, kinds):
        raise InvalidRef(ref, f"{new_oid} is not a commit of this repository")
    _refuse_taken_name(repository, ref, expected_oid)

    def move(transaction: Any) -> None:
        transaction.set_target(ref, new_oid)

    _swap(repository, path, ref, expected_oid, move)


def delete(repository: Any, path: Path, ref: str, expected_oid: str | None) -> None:
    """Remove `ref` if it is at `expected_oid`.

    Raises:
        RefMoved: It is elsewhere, or absent.
        RefLocked: Somebody kept the lock for too long.
        InvalidRef: The name is not one of a served ref.
    """
    if not is_wellformed(ref):
        raise InvalidRef(ref, "it is not a ref that can be deleted")
    if expected_oid is None:
        raise RefMoved(ref, None, None)

    def remove(transaction: Any) -> None:
        transaction.remove(ref)

    _swap(repository, path, ref, expected_oid, remove)


def target_of(repository: Any, ref: str) -> str | None:
    """The object that `ref` points at now, or None."""
    try:
        return str(repository.lookup_reference(ref).resolve().target)
    except KeyError:
        return None


def _swap(
    repository: Any,
    path: Path,
    ref: str,
    expected_oid: str | None,
    change: Callable[[Any], None],
) -> None:
    with repository.transaction() as transaction:
        _lock(transaction, path, ref)
        current_oid = target_of(repository, ref)
        if current_oid != expected_oid:
            raise RefMoved(ref, expected_oid, current_oid)
        change(transaction)


def _lock(transaction: Any, path: Path, ref: str) -> None:
    """Take the ref's lock, waiting for its holder; libgit2 itself tries only once."""
    deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
    pause = 0.002
    while True:
        try:
            transaction.lock_ref(ref)
        except pygit2.GitError:
            if time.monotonic() > deadline:
                raise RefLocked(ref) from None
        else:
            return
        break_stale_locks(path)
        time.sleep(pause)
        pause = min(pause * 2, 0.1)


def _refuse_taken_name(repository: Any, ref: str, expected_oid: str | None) -> None:
    """Say early and clearly what libgit2 would report only as a failed lock."""
    if expected_oid is not None:
        return
    for other in repository.listall_references():
        if other.startswith(f"{ref}/") or ref.startswith(f"{other}/"):
            raise RefNameTaken(ref, other)
