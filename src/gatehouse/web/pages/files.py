"""The files of a repository: folders, one file, and the commits behind them."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated

from fastapi import Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.http.actors import CurrentActor
from gatehouse.http.addresses import split_revision
from gatehouse.http.context import Services, ServicesDependency
from gatehouse.http.gates import RepoGate
from gatehouse.identity.permissions import Permission
from gatehouse.repos.cards import read_card
from gatehouse.repos.files import File
from gatehouse.repos.repository import Repository
from gatehouse.storage.git.records import CommitInfo
from gatehouse.web.card_links import CardLinks
from gatehouse.web.formats import human_size
from gatehouse.web.markdown import render_markdown
from gatehouse.web.page_route import page_router
from gatehouse.web.repository_pages import render_repository, root_of

MAX_PREVIEW_BYTES = 512 * 1024
_MAX_ROWS = 1000
_COMMITS_PER_PAGE = 50
# Those that `resolve` sends as pictures. Not SVG: it can hold scripts.
_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp"})
_MAX_PICTURE_BYTES = 20 * 1024 * 1024

router = page_router()

_Known = Annotated[Repository, Depends(RepoGate(Permission.REPO_METADATA))]
_Readable = Annotated[Repository, Depends(RepoGate(Permission.REPO_CONTENT))]


@dataclass(frozen=True, slots=True)
class TreeRow:
    """One line of a folder.

    Attributes:
        commit: The last one that changed it; None if the history was too long to say.
    """

    name: str
    file: File
    commit: CommitInfo | None


@router.get("/{prefix:prefix}{namespace:name}/{name:name}/tree/{rest:path}")
def tree_page(
    request: Request,
    rest: str,
    repository: _Known,
    viewer: CurrentActor,
    services: ServicesDependency,
) -> Response:
    revision, path = split_revision(rest)
    path = path.strip("/")
    commit_oid = services.files.commit_oid(repository, revision)
    entries = services.files.tree(repository, commit_oid, path)
    rows = _rows(services, repository, commit_oid, entries[:_MAX_ROWS])
    return render_repository(
        request,
        "tree.html",
        viewer,
        repository,
        "files",
        revision=revision,
        path=path,
        crumbs=_crumbs(path),
        parent=_parent(path),
        rows=rows,
        num_hidden=len(entries) - len(rows),
        num_commits=services.repositories.git(repository).count_commits(commit_oid),
    )


@router.get("/{prefix:prefix}{namespace:name}/{name:name}/blob/{rest:path}")
def blob_page(
    request: Request,
    rest: str,
    repository: _Readable,
    viewer: CurrentActor,
    services: ServicesDependency,
) -> Response:
    revision, path = split_revision(rest)
    commit_oid = services.files.commit_oid(repository, revision)
    file = services.files.file(repository, commit_oid, path)
    text, why_not = _preview(services, repository, commit_oid, file)
    prose = None
    if text is not None and PurePosixPath(path).suffix.lower() == ".md":
        folder = str(PurePosixPath(path).parent).removeprefix(".")
        links = CardLinks(root_of(repository), revision, folder)
        prose = render_markdown(read_card(text).body, links)
    suffix = PurePosixPath(path).suffix.lower()
    return render_repository(
        request,
        "blob.html",
        viewer,
        repository,
        "files",
        revision=revision,
        file=file,
        crumbs=_crumbs(path),
        text=text,
        prose=prose,
        num_lines=len(text.splitlines()) if text is not None else 0,
        is_picture=suffix in _PICTURES and file.size <= _MAX_PICTURE_BYTES,
        why_not=why_not,
    )


@router.get("/{prefix:prefix}{namespace:name}/{name:name}/commits/{rest:path}")
def commits_page(
    request: Request,
    rest: str,
    repository: _Known,
    viewer: CurrentActor,
    services: ServicesDependency,
    page: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> Response:
    revision, _ = split_revision(rest)
    commit_oid = services.files.commit_oid(repository, revision)
    git = services.repositories.git(repository)
    skip = page * _COMMITS_PER_PAGE
    commits = git.log(commit_oid, limit=_COMMITS_PER_PAGE + 1, skip=skip)
    return render_repository(
        request,
        "commits.html",
        viewer,
        repository,
        "files",
        revision=revision,
        commits=commits[:_COMMITS_PER_PAGE],
        num_commits=git.count_commits(commit_oid),
        newer=page - 1 if page > 0 else None,
        older=page + 1 if len(commits) > _COMMITS_PER_PAGE else None,
    )


def _rows(
    services: Services, repository: Repository, commit_oid: str, entries: list[File]
) -> list[TreeRow]:
    git = services.repositories.git(repository)
    commits = git.last_commits(commit_oid, [file.path for file in entries])
    rows = [TreeRow(PurePosixPath(f.path).name, f, commits.get(f.path)) for f in entries]
    return sorted(rows, key=lambda row: (not row.file.is_directory, row.name.casefold()))


def _preview(
    services: Services, repository: Repository, commit_oid: str, file: File
) -> tuple[str | None, str]:
    """The text, or None and why there is none."""
    if file.size > MAX_PREVIEW_BYTES:
        limit = human_size(MAX_PREVIEW_BYTES)
        return None, f"This file is too large to show: the limit is {limit}."
    content = services.files.read_small(repository, commit_oid, file.path, MAX_PREVIEW_BYTES)
    if content is None or b"\0" in content:
        return None, "This file is not text, so it is not shown here."
    try:
        return content.decode("utf-8"), ""
    except UnicodeDecodeError:
        return None, "This file is not text in UTF-8, so it is not shown here."


def _crumbs(path: str) -> list[tuple[str, str]]:
    """Name and full path of each part."""
    parts = [part for part in path.split("/") if part]
    return [(part, "/".join(parts[: number + 1])) for number, part in enumerate(parts)]


def _parent(path: str) -> str | None:
    return None if not path else path.rpartition("/")[0]
