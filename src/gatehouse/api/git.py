"""Git over smart HTTP: the gate says who may clone and push, the git program does the rest."""

from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gatehouse.http.actors import CurrentActor
from gatehouse.http.bodies import uploaded_pieces
from gatehouse.http.context import ServicesDependency
from gatehouse.http.gates import RepoGate
from gatehouse.identity.permissions import Permission
from gatehouse.repos.repository import Repository
from gatehouse.storage.git import smart_http
from gatehouse.storage.git.push import Push
from gatehouse.storage.git.smart_http import GitService

router = APIRouter()

_Content = Annotated[Repository, Depends(RepoGate(Permission.REPO_CONTENT))]
_Writable = Annotated[Repository, Depends(RepoGate(Permission.REPO_WRITE))]
_REPO = "/{prefix:prefix}{namespace:name}/{name:gitname}"
_NO_CACHE = {"Cache-Control": "no-cache, max-age=0, must-revalidate"}


@router.get(_REPO + "/info/refs")
async def info_refs(
    request: Request,
    services: ServicesDependency,
    actor: CurrentActor,
    repository: _Content,
    service: Annotated[GitService, Query()],
) -> Response:
    if service is GitService.RECEIVE_PACK:
        require = services.access.require
        await run_sync(require, actor, repository, Permission.REPO_WRITE)
    path = services.repositories.git_path(repository)
    body = await smart_http.advertise(path, service, request.headers.get("git-protocol"))
    media_type = f"application/x-{service.value}-advertisement"
    return Response(body, media_type=media_type, headers=_NO_CACHE)


@router.post(_REPO + "/git-upload-pack")
async def upload_pack(
    request: Request, services: ServicesDependency, repository: _Content
) -> Response:
    pack = await smart_http.upload_pack(
        services.repositories.git_path(repository),
        uploaded_pieces(request),
        protocol=request.headers.get("git-protocol"),
        encoding=request.headers.get("content-encoding"),
    )
    media_type = "application/x-git-upload-pack-result"
    return StreamingResponse(pack, media_type=media_type, headers=_NO_CACHE)


@router.post(_REPO + "/git-receive-pack")
async def receive_pack(
    request: Request,
    services: ServicesDependency,
    actor: CurrentActor,
    repository: _Writable,
) -> Response:
    def check(push: Push) -> None:
        services.pushes.check(actor, repository, push)

    result = await smart_http.receive_pack(
        services.repositories.git_path(repository),
        uploaded_pieces(request),
        check,
        protocol=request.headers.get("git-protocol"),
        encoding=request.headers.get("content-encoding"),
    )
    await run_sync(services.pushes.finish, actor, repository, result.moved)
    media_type = "application/x-git-receive-pack-result"
    return Response(result.answer, media_type=media_type, headers=_NO_CACHE)
