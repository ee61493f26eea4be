"""Walks commits: logs, counts, and the commit that last changed a path. Every cost is a walk."""

import heapq
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from itertools import islice
from typing import Any

import pygit2
from pygit2.enums import SortMode

from gatehouse.storage.git.records import CommitInfo
from gatehouse.storage.git.trees import find


def describe(commit: Any) -> CommitInfo:
    """What listings show of the pygit2 commit `commit`; odd bytes become U+FFFD."""
    author = commit.author
    return CommitInfo(
        oid=str(commit.id),
        tree_oid=str(commit.tree_id),
        parent_oids=tuple(str(oid) for oid in commit.parent_ids),
        message=commit.raw_message.decode("utf-8", "replace"),
        author_name=author.raw_name.decode("utf-8", "replace"),
        author_email=author.raw_email.decode("utf-8", "replace"),
        authored_at=_moment(author.time, author.offset),
    )


def _moment(seconds: int, offset_minutes: int) -> datetime:
    """The aware datetime of a signature; what a calendar cannot hold becomes the epoch."""
    try:
        return datetime.fromtimestamp(seconds, timezone(timedelta(minutes=offset_minutes)))
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


def log(repository: Any, commit_oid: str, limit: int, skip: int) -> list[CommitInfo]:
    """Up to `limit` commits from `commit_oid` back, newest first, after leaving out `skip`."""
    # By time alone, libgit2 lists a parent before its child when both are of the same second.
    order = SortMode.TOPOLOGICAL | SortMode.TIME
    walker = repository.walk(pygit2.Oid(hex=commit_oid), order)
    return [describe(commit) for commit in islice(walker, skip, skip + limit)]


def count(repository: Any, commit_oid: str) -> int:
    """How many commits `commit_oid` has behind it, with itself."""
    return sum(1 for _ in repository.walk(pygit2.Oid(hex=commit_oid), SortMode.NONE))


def last_commits(repository: Any, start: Any, paths: Iterable[str]) -> dict[str, CommitInfo]:
    """For each path that commit `start` has, the newest commit that made it what it is.

    As `git log -1 -- PATH` finds it: a merge that took a path unchanged from a parent is not its
    author, and the walk goes on along the first such parent. All paths share one walk.
    """
    found: dict[str, CommitInfo] = {}
    asked = {path: item.id for path in paths if (item := find(start.tree, path)) is not None}
    waiting: dict[Any, dict[str, Any]] = {start.id: asked}
    # Newest first, so that paths arriving by several branches meet before they go on together.
    queue = [(-start.commit_time, 0, start)]
    num_queued = 1
    while queue:
        commit = heapq.heappop(queue)[2]
        for path, parent in _pass_on(commit, waiting.pop(commit.id)):
            if parent is None:
                found[path] = describe(commit)
                continue
            if parent.id not in waiting:
                waiting[parent.id] = {}
                heapq.heappush(queue, (-parent.commit_time, num_queued, parent))
                num_queued += 1
            waiting[parent.id][path] = asked[path]
    return found


def _pass_on(commit: Any, wanted: dict[str, Any]) -> list[tuple[str, Any | None]]:
    """Pair each wanted path with the first parent that has the same object there, or None."""
    parents = commit.parents
    trees = [parent.tree for parent in parents]
    passed: list[tuple[str, Any | None]] = []
    for path, oid in wanted.items():
        heir = None
        for parent, tree in zip(parents, trees, strict=True):
            if tree.id == commit.tree_id or _object_id(tree, path) == oid:
                heir = parent
                break
        passed.append((path, heir))
    return passed


def _object_id(tree: Any, path: str) -> Any | None:
    item = find(tree, path)
    return None if item is None else item.id
