"""Xet tokens: a repository's permission, in the form that Xet clients carry to the CAS routes.

Clients remember for weeks what they uploaded, by `casUrl`. It therefore holds the generation of
this store and the user, so that a wiped store or another user starts with a fresh memory.
"""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse

from gatehouse.http.actors import CurrentActor
from gatehouse.http.addresses import base_url
from gatehouse.http.context import Services, ServicesDependency
from gatehouse.http.gates import RepoGate
from gatehouse.http.raw_path import decoded
from gatehouse.identity.actors import Actor
from gatehouse.identity.capabilities import Purpose
from gatehouse.identity.permissions import Permission
from gatehouse.repos.repository import Repository

router = APIRouter()

_TOKEN_SECONDS = 3600

_Writable = Annotated[Repository, Depends(RepoGate(Permission.REPO_WRITE))]
_Content = Annotated[Repository, Depends(RepoGate(Permission.REPO_CONTENT))]
_REPO = "/api/{kind:kind}/{namespace:name}/{name:name}"


@router.get(_REPO + "/xet-write-token/{revision:path}")
def write_token(
    revision: str,
    request: Request,
    services: ServicesDependency,
    actor: CurrentActor,
    repository: _Writable,
) -> JSONResponse:
    services.files.commit_oid(repository, decoded(revision))
    return _token(request, services, actor, repository, Purpose.XET_WRITE)


@router.get(_REPO + "/xet-read-token/{revision:path}")
def read_token(
    revision: str,
    request: Request,
    services: ServicesDependency,
    actor: CurrentActor,
    repository: _Content,
) -> JSONResponse:
    services.files.commit_oid(repository, decoded(revision))
    if request.headers.get("x-hf-download-counter"):
        # The bytes themselves are asked for without saying what for.
        services.download_counts.add(repository.id)
    return _token(request, services, actor, repository, Purpose.XET_READ)


def _token(
    request: Request, services: Services, actor: Actor, repository: Repository, purpose: Purpose
) -> JSONResponse:
    user_id = None if actor.user is None else actor.user.id
    token, capability = services.capabilities.issue(
        purpose, repository.id, user_id, seconds=_TOKEN_SECONDS
    )
    cas_url = f"{base_url(request)}/xet/{services.store_generation}-{user_id or 0}"
    # Python reads the headers, the Rust refresher the body.
    headers = {
        "X-Xet-Cas-Url": cas_url,
        "X-Xet-Access-Token": token,
        "X-Xet-Token-Expiration": str(capability.expires),
        "Cache-Control": "no-store",
    }
    body = {"casUrl": cas_url, "exp": capability.expires, "accessToken": token}
    return JSONResponse(body, headers=headers)
