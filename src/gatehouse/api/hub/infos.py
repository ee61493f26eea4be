"""Information about repositories: one, a revision of one, lists, trees and paths."""

import json
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import parse_qs, urlencode

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import JSONResponse

from gatehouse.core.clock import to_wire
from gatehouse.core.errors import Invalid
from gatehouse.core.ids import RepoKind
from gatehouse.http.addresses import base_url, split_revision
from gatehouse.http.bodies import read_body
from gatehouse.http.bounded_route import BoundedRoute
from gatehouse.http.context import Services, ServicesDependency
from gatehouse.http.gates import PublicGate, RepoGate
from gatehouse.http.raw_path import decoded
from gatehouse.identity.actors import Actor
from gatehouse.identity.permissions import Permission
from gatehouse.inference.tasks import ENGINE_BY_TASK
from gatehouse.repos.files import File
from gatehouse.repos.infos import RepoInfo
from gatehouse.repos.repository import Repository
from gatehouse.storage.git.records import CommitInfo

router = APIRouter(route_class=BoundedRoute)

_Readable = Annotated[Repository, Depends(RepoGate(Permission.REPO_METADATA))]
_Anybody = Annotated[Actor, Depends(PublicGate("lists only what the caller may know of"))]
_REPO = "/api/{kind:kind}/{namespace:name}/{name:name}"
_TREE_PAGE = 1000
_EXPANDED_PAGE = 100
_LIST_LIMIT = 1000
_MAX_PATHS = 1000
_PATHS_BODY = 4 * 1024 * 1024


@router.get("/api/{kind:kind}")
def list_repositories(
    kind: RepoKind,
    services: ServicesDependency,
    actor: _Anybody,
    search: Annotated[str | None, Query(max_length=200)] = None,
    author: Annotated[str | None, Query(max_length=100)] = None,
    limit: Annotated[int, Query(ge=1)] = 100,
) -> list[dict[str, Any]]:
    found = services.repositories.list_visible(
        actor, kind, owner=author, search=search, limit=min(limit, _LIST_LIMIT)
    )
    return [_short(services, repository) for repository in found]


@router.get(_REPO)
def info(request: Request, services: ServicesDependency, repository: _Readable) -> dict[str, Any]:
    return _info(request, services, repository, "HEAD")


@router.get(_REPO + "/revision/{rest:path}")
def info_at_revision(
    rest: str, request: Request, services: ServicesDependency, repository: _Readable
) -> dict[str, Any]:
    return _info(request, services, repository, decoded(rest))


@router.get(_REPO + "/tree/{rest:path}")
def tree(
    rest: str,
    request: Request,
    services: ServicesDependency,
    repository: _Readable,
    recursive: bool = False,
    expand: bool = False,
    cursor: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int | None, Query(ge=1, le=_TREE_PAGE)] = None,
) -> JSONResponse:
    revision, path = split_revision(rest)
    commit_oid = services.files.commit_oid(repository, revision)
    files = services.files.tree(repository, commit_oid, path.strip("/"), recursive=recursive)
    size = limit or (_EXPANDED_PAGE if expand else _TREE_PAGE)
    page = files[cursor : cursor + size]
    headers = {"X-Repo-Commit": commit_oid}
    if cursor + size < len(files):
        headers["Link"] = _next_link(request, cursor + size)
    items = _tree_items(services, repository, commit_oid, page, expand=expand)
    return JSONResponse(items, headers=headers)


@router.post(_REPO + "/paths-info/{rest:path}")
async def paths_info(
    rest: str, request: Request, services: ServicesDependency, repository: _Readable
) -> JSONResponse:
    paths, expand = await _asked_paths(request)
    return await run_sync(_paths_answer, services, repository, decoded(rest), paths, expand)


def _paths_answer(
    services: Services, repository: Repository, revision: str, paths: list[str], expand: bool
) -> JSONResponse:
    commit_oid = services.files.commit_oid(repository, revision)
    found = services.files.paths(repository, commit_oid, (path.strip("/") for path in paths))
    items = _tree_items(services, repository, commit_oid, found, expand=expand)
    return JSONResponse(items, headers={"X-Repo-Commit": commit_oid})


async def _asked_paths(request: Request) -> tuple[list[str], bool]:
    """The `paths` of the body: a form from Python, JSON from JavaScript."""
    body = await read_body(request, _PATHS_BODY)
    if request.headers.get("content-type", "").startswith("application/json"):
        paths, expand = _from_json(body)
    else:
        form = parse_qs(body.decode("utf-8", "replace"))
        paths, expand = form.get("paths", []), form.get("expand", [""])[-1].lower() in ("true", "1")
    if len(paths) > _MAX_PATHS:
        raise Invalid(f"`paths` may have at most {_MAX_PATHS} elements.")
    return paths, expand


def _from_json(body: bytes) -> tuple[list[str], bool]:
    try:
        asked = json.loads(body)
        paths, expand = asked["paths"], bool(asked.get("expand", False))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Invalid("The body must be a JSON object with `paths`, a list of strings.") from None
    paths = [paths] if isinstance(paths, str) else paths
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise Invalid("`paths` must be a list of strings.")
    return paths, expand


def _info(
    request: Request, services: Services, repository: Repository, revision: str
) -> dict[str, Any]:
    commit_oid = services.files.commit_oid(repository, revision)
    details = _details(services, repository, commit_oid)
    with_blobs = request.query_params.get("blobs") in ("true", "1", "True")
    answer = {
        **_identity(repository, details),
        "siblings": [_sibling(file, with_blobs=with_blobs) for file in details.files],
        "cardData": details.metadata or None,
        "spaces": [],
        "usedStorage": sum(file.size for file in details.files),
        **_model_keys(repository, details),
    }
    expanded = request.query_params.getlist("expand") + request.query_params.getlist("expand[]")
    if expanded:
        answer["inferenceProviderMapping"] = _provider_mapping(repository, details)
        wanted = {"_id", "id", *expanded}
        return {key: value for key, value in answer.items() if key in wanted}
    return answer


def _short(services: Services, repository: Repository) -> dict[str, Any]:
    details = _details(services, repository, services.files.commit_oid(repository, "HEAD"))
    return {**_identity(repository, details), **_model_keys(repository, details)}


def _details(services: Services, repository: Repository, commit_oid: str) -> RepoInfo:
    info = services.infos.at(repository, commit_oid)
    return services.remote_engines.described(repository, info)


def _identity(repository: Repository, details: RepoInfo) -> dict[str, Any]:
    return {
        "_id": str(repository.id),
        "id": str(repository.repo_id),
        "author": repository.repo_id.namespace,
        "sha": details.commit_oid,
        "lastModified": to_wire(repository.updated_at),
        "createdAt": to_wire(repository.created_at),
        "private": repository.is_private,
        "gated": repository.gate.wire,
        "disabled": False,
        "downloads": repository.downloads,
        "likes": 0,
        "tags": list(details.tags),
    }


def _model_keys(repository: Repository, details: RepoInfo) -> dict[str, Any]:
    if repository.kind is not RepoKind.MODEL:
        return {}
    answer: dict[str, Any] = {"modelId": str(repository.repo_id)}
    if details.task is not None:
        answer["pipeline_tag"] = details.task
    if details.library is not None:
        answer["library_name"] = details.library
    if details.config is not None:
        answer["config"] = details.config
    return answer


def _provider_mapping(repository: Repository, details: RepoInfo) -> dict[str, Any]:
    """Which service runs this model: ours, under the name the clients know."""
    if repository.kind is not RepoKind.MODEL or details.task not in ENGINE_BY_TASK:
        return {}
    entry = {"status": "live", "providerId": str(repository.repo_id), "task": details.task}
    return {"hf-inference": entry}


def _sibling(file: File, *, with_blobs: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {"rfilename": file.path}
    if with_blobs:
        answer |= {"size": file.size, "blobId": file.oid}
        if file.pointer is not None:
            answer["lfs"] = {
                "sha256": file.pointer.oid,
                "size": file.size,
                "pointerSize": file.pointer_size,
            }
    return answer


def _tree_items(
    services: Services, repository: Repository, commit_oid: str, files: list[File], *, expand: bool
) -> list[dict[str, Any]]:
    """`expand` adds the last commit of each, found in one walk of the history."""
    pointers = (file.pointer for file in files)
    xet_hashes = services.xet_downloads.offered(item.oid for item in pointers if item is not None)
    items = [_tree_item(file, xet_hashes) for file in files]
    if expand:
        git = services.repositories.git(repository)
        last = git.last_commits(commit_oid, [file.path for file in files])
        for item in items:
            if item["path"] in last:
                item["lastCommit"] = _last_commit(last[item["path"]])
    return items


def _tree_item(file: File, xet_hashes: Mapping[str, str]) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "type": "directory" if file.is_directory else "file",
        "oid": file.oid,
        "size": file.size,
        "path": file.path,
    }
    if file.pointer is not None:
        answer["lfs"] = {
            "oid": file.pointer.oid,
            "size": file.size,
            "pointerSize": file.pointer_size,
        }
        if file.pointer.oid in xet_hashes:
            answer["xetHash"] = xet_hashes[file.pointer.oid]
    return answer


def _last_commit(commit: CommitInfo) -> dict[str, Any]:
    return {"id": commit.oid, "title": commit.title, "date": to_wire(commit.authored_at)}


def _next_link(request: Request, cursor: int) -> str:
    """An absolute URL: clients fail on a relative one."""
    parameters = [
        (key, value) for key, value in request.query_params.multi_items() if key != "cursor"
    ]
    query = urlencode([*parameters, ("cursor", str(cursor))])
    raw = request.scope.get("raw_path") or request.url.path.encode()
    path = raw.decode("ascii", "replace").partition("?")[0]
    return f'<{base_url(request)}{path}?{query}>; rel="next"'
