"""Git LFS over HTTP: the batch call, whole-object upload and download, verify.

Upload and download addresses are signed for one object and a short time, since clients send no
token there; the gate is asked again when they are used. See the Git LFS API specification (batch,
basic transfer).
"""

from typing import Annotated, Any, Literal

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gatehouse.core.errors import Invalid, NotBuilt, NotFound
from gatehouse.core.ids import is_sha256
from gatehouse.http.actors import CurrentActor
from gatehouse.http.addresses import base_url, repo_url
from gatehouse.http.bodies import copy_body, declared_length, too_large
from gatehouse.http.bounded_route import BoundedRoute
from gatehouse.http.context import Services, ServicesDependency
from gatehouse.http.downloads import send_path
from gatehouse.http.gates import Admitted, CapabilityGate, RepoGate
from gatehouse.identity.actors import Actor
from gatehouse.identity.capabilities import Purpose
from gatehouse.identity.permissions import Permission
from gatehouse.repos.repository import Repository
from gatehouse.storage.base import BlobUpload

router = APIRouter(route_class=BoundedRoute)

_MEDIA_TYPE = "application/vnd.git-lfs+json"
_UPLOAD_SECONDS = 6 * 3600
_DOWNLOAD_SECONDS = 3600
_MAX_OBJECTS = 1000

_Readable = Annotated[Repository, Depends(RepoGate(Permission.REPO_CONTENT))]
_Writable = Annotated[Repository, Depends(RepoGate(Permission.REPO_WRITE))]
_Uploader = Annotated[
    Admitted,
    Depends(CapabilityGate(Permission.REPO_WRITE, frozenset({Purpose.LFS_UPLOAD}), in_query=True)),
]
_Downloader = Annotated[
    Admitted,
    Depends(
        CapabilityGate(Permission.REPO_CONTENT, frozenset({Purpose.LFS_DOWNLOAD}), in_query=True)
    ),
]
_REPO = "/{prefix:prefix}{namespace:name}/{name:gitname}"


class BatchObject(BaseModel):
    oid: str
    size: int = Field(ge=0)


class Batch(BaseModel):
    """Body of the batch call; other keys (`transfers`, `ref`) change nothing here."""

    operation: Literal["upload", "download"]
    objects: list[BatchObject] = Field(max_length=_MAX_OBJECTS)
    hash_algo: str = "sha256"


@router.post(_REPO + "/info/lfs/objects/batch")
def batch(
    request: Request,
    services: ServicesDependency,
    actor: CurrentActor,
    repository: _Readable,
    body: Batch,
) -> JSONResponse:
    if body.hash_algo not in ("sha256", "sha_256"):
        raise Invalid("`hash_algo` must be `sha256`.")
    if body.operation == "upload":
        services.access.require(actor, repository, Permission.REPO_WRITE)
        objects = [_upload(request, services, actor, repository, item) for item in body.objects]
    else:
        objects = [_download(request, services, actor, repository, item) for item in body.objects]
    answer = {"transfer": "basic", "objects": objects, "hash_algo": "sha256"}
    return JSONResponse(answer, media_type=_MEDIA_TYPE)


@router.post(_REPO + "/info/lfs/verify")
def verify(services: ServicesDependency, repository: _Writable, body: BatchObject) -> Response:
    size = services.large_files.size(repository, body.oid)
    if size is None:
        raise NotFound(f"The object {body.oid[:64]} was not uploaded.")
    if size != body.size:
        raise Invalid(f"The object {body.oid} has {size} bytes, not {body.size}.")
    return JSONResponse({}, media_type=_MEDIA_TYPE)


@router.post(_REPO + "/info/lfs/locks/verify")
def verify_locks(_repository: _Writable) -> Response:
    """Asked before each push; git-lfs goes on without locks at a 501."""
    raise NotBuilt("LFS locks are not built yet.")


@router.put("/lfs/objects/{oid}")
async def upload(
    oid: str, request: Request, services: ServicesDependency, admitted: _Uploader
) -> Response:
    _require_subject(oid, admitted)
    length = declared_length(request, services.settings.max_file_bytes)
    if length is not None and length != admitted.size:
        raise Invalid(f"`Content-Length` is {length}; {admitted.size} bytes were announced.")
    sink = await run_sync(services.blobs.begin)
    with sink:
        await copy_body(request, sink.write, admitted.size)
        await run_sync(_finish, services, sink, admitted)
    return Response()


@router.head("/lfs/objects/{oid}", include_in_schema=False)
@router.get("/lfs/objects/{oid}")
def download(
    oid: str, request: Request, services: ServicesDependency, admitted: _Downloader
) -> Response:
    _require_subject(oid, admitted)
    size = services.large_files.size(admitted.repository, oid)
    path = services.blobs.path(oid)
    if size is None or path is None:
        raise NotFound(f"The object {oid[:64]} is not here.")
    headers = {"ETag": f'"{oid}"', "Content-Type": "application/octet-stream"}
    return send_path(request, path, size, headers)


def _finish(services: Services, sink: BlobUpload, admitted: Admitted) -> None:
    """The bytes first, then the row that says whose they are."""
    stored = sink.finish(admitted.subject, admitted.size)
    services.large_files.link(admitted.repository, stored.sha256, stored.size)


def _upload(
    request: Request, services: Services, actor: Actor, repository: Repository, item: BatchObject
) -> dict[str, Any]:
    if not is_sha256(item.oid):
        return _object(item, error=(422, "`oid` must be a SHA-256 in lower-case hex."))
    if item.size > services.settings.max_file_bytes:
        return _object(item, error=(413, too_large(services.settings.max_file_bytes).message))
    if services.large_files.claim(actor, repository, item.oid) == item.size:
        return _object(item)
    assert actor.user is not None
    text, _ = services.capabilities.issue(
        Purpose.LFS_UPLOAD,
        repository.id,
        actor.user.id,
        seconds=_UPLOAD_SECONDS,
        subject=item.oid,
        size=item.size,
    )
    upload_action = {"href": f"{base_url(request)}/lfs/objects/{item.oid}?capability={text}"}
    verify_action = {"href": f"{repo_url(request, repository)}.git/info/lfs/verify"}
    return _object(item, actions={"upload": upload_action, "verify": verify_action})


def _download(
    request: Request, services: Services, actor: Actor, repository: Repository, item: BatchObject
) -> dict[str, Any]:
    size = services.large_files.size(repository, item.oid)
    if size is None or size != item.size:
        return _object(item, error=(404, "The object does not exist."))
    text, _ = services.capabilities.issue(
        Purpose.LFS_DOWNLOAD,
        repository.id,
        actor.user.id if actor.user else None,
        seconds=_DOWNLOAD_SECONDS,
        subject=item.oid,
        size=size,
    )
    href = f"{base_url(request)}/lfs/objects/{item.oid}?capability={text}"
    return _object(item, actions={"download": {"href": href}})


def _object(
    item: BatchObject,
    *,
    actions: dict[str, Any] | None = None,
    error: tuple[int, str] | None = None,
) -> dict[str, Any]:
    answer: dict[str, Any] = {"oid": item.oid, "size": item.size}
    if actions is not None:
        answer["actions"] = actions
    if error is not None:
        answer["error"] = {"code": error[0], "message": error[1]}
    return answer


def _require_subject(oid: str, admitted: Admitted) -> None:
    if oid != admitted.subject:
        raise Invalid("This address was signed for another object.")
