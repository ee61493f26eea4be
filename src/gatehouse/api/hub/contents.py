"""The bytes of files: resolve (real content) and raw (what git holds)."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.core.errors import Unavailable
from gatehouse.http.addresses import base_url, split_revision
from gatehouse.http.context import Services, ServicesDependency
from gatehouse.http.downloads import content_disposition, send_bytes, send_path
from gatehouse.http.gates import RepoGate
from gatehouse.identity.permissions import Permission
from gatehouse.repos.files import File
from gatehouse.repos.repository import Repository

router = APIRouter()

_Content = Annotated[Repository, Depends(RepoGate(Permission.REPO_CONTENT))]
_REPO = "/{prefix:prefix}{namespace:name}/{name:name}"


@router.head(_REPO + "/resolve/{rest:path}", include_in_schema=False)
@router.get(_REPO + "/resolve/{rest:path}")
def resolve(
    rest: str, request: Request, services: ServicesDependency, repository: _Content
) -> Response:
    revision, path = split_revision(rest)
    commit_oid = services.files.commit_oid(repository, revision)
    file = services.files.file(repository, commit_oid, path)
    if request.method == "GET" and request.headers.get("x-hf-download-counter"):
        services.download_counts.add(repository.id)
    headers = _headers(commit_oid, file)
    headers |= _xet_headers(request, services, repository, commit_oid, file)
    if file.pointer is None:
        return send_bytes(request, services.files.read(repository, file), headers)
    local = services.files.local_path(file)
    if local is None:
        raise Unavailable("The bytes of this file are not at hand. Please try again later.")
    return send_path(request, local, file.size, headers)


@router.head(_REPO + "/raw/{rest:path}", include_in_schema=False)
@router.get(_REPO + "/raw/{rest:path}")
def raw(
    rest: str, request: Request, services: ServicesDependency, repository: _Content
) -> Response:
    revision, path = split_revision(rest)
    commit_oid = services.files.commit_oid(repository, revision)
    file = services.files.file(repository, commit_oid, path)
    headers = {
        "X-Repo-Commit": commit_oid,
        "ETag": f'"{file.oid}"',
        "Content-Type": "text/plain; charset=utf-8",
    }
    return send_bytes(request, services.files.read(repository, file), headers)


# Pictures that a card may show. Not SVG: it can hold scripts.
_PICTURES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
}


def _content_type(file: File) -> str:
    ending = file.path.rpartition(".")[2].lower()
    default = "application/octet-stream" if file.pointer else "text/plain; charset=utf-8"
    return _PICTURES.get(ending, default)


def _headers(commit_oid: str, file: File) -> dict[str, str]:
    headers = {
        "X-Repo-Commit": commit_oid,
        "ETag": f'"{file.etag}"',
        "Content-Type": _content_type(file),
        "Content-Disposition": content_disposition(file.path.rpartition("/")[2]),
        "Vary": "Authorization, Cookie",
    }
    if file.pointer is not None:
        headers["X-Linked-ETag"] = f'"{file.etag}"'
        headers["X-Linked-Size"] = str(file.size)
    return headers


def _xet_headers(
    request: Request, services: Services, repository: Repository, commit_oid: str, file: File
) -> dict[str, str]:
    """How to have a file by Xet instead, if it can be had so; clients that cannot ignore it."""
    if file.pointer is None:
        return {}
    file_hash = services.xet_downloads.offered([file.pointer.oid]).get(file.pointer.oid)
    if file_hash is None:
        return {}
    api = f"{base_url(request)}/api/{repository.kind.plural}/{repository.repo_id}"
    return {
        "X-Xet-Hash": file_hash,
        "X-Xet-Refresh-Route": f"{api}/xet-read-token/{commit_oid}",
    }
