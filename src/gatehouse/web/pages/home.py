"""The first page, and the lists of models, datasets and spaces."""

from typing import Annotated

from fastapi import Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.core.ids import RepoKind
from gatehouse.http.context import ServicesDependency
from gatehouse.http.gates import PublicGate
from gatehouse.identity.actors import Actor
from gatehouse.web.page_route import page_router
from gatehouse.web.render import render

_NUM_NEWEST = 12
_NUM_LISTED = 60
_MAX_SEARCH = 100

router = page_router()

_Visitor = Annotated[Actor, Depends(PublicGate("lists only what the visitor may know of"))]
_Search = Annotated[str, Query(max_length=_MAX_SEARCH)]


@router.get("/")
def home(request: Request, viewer: _Visitor, services: ServicesDependency) -> Response:
    newest = services.repositories.list_visible(viewer, limit=_NUM_NEWEST)
    return render(request, "home.html", viewer, repositories=newest)


@router.get("/models")
def models(
    request: Request, viewer: _Visitor, services: ServicesDependency, search: _Search = ""
) -> Response:
    return _catalogue(request, viewer, services, RepoKind.MODEL, search)


@router.get("/datasets")
def datasets(
    request: Request, viewer: _Visitor, services: ServicesDependency, search: _Search = ""
) -> Response:
    return _catalogue(request, viewer, services, RepoKind.DATASET, search)


@router.get("/spaces")
def spaces(
    request: Request, viewer: _Visitor, services: ServicesDependency, search: _Search = ""
) -> Response:
    return _catalogue(request, viewer, services, RepoKind.SPACE, search)


def _catalogue(
    request: Request, viewer: Actor, services: ServicesDependency, kind: RepoKind, search: str
) -> Response:
    search = search.strip()
    found = services.repositories.list_visible(
        viewer, kind, search=search or None, limit=_NUM_LISTED + 1
    )
    return render(
        request,
        "catalogue.html",
        viewer,
        title=kind.plural.capitalize(),
        kind=kind,
        search=search,
        repositories=found[:_NUM_LISTED],
        is_cut=len(found) > _NUM_LISTED,
    )
