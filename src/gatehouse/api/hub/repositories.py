"""Create, delete, move and set up repositories."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends
from starlette.requests import Request

from gatehouse.core.errors import Unauthenticated
from gatehouse.core.ids import RepoId, RepoKind
from gatehouse.http.actors import CurrentActor
from gatehouse.http.addresses import repo_url
from gatehouse.http.bounded_route import BoundedRoute
from gatehouse.http.context import ServicesDependency
from gatehouse.http.gates import AccountGate, ChosenGate, RepoGate
from gatehouse.identity.actors import Actor
from gatehouse.identity.permissions import Permission
from gatehouse.repos.repositories import SettingsChange
from gatehouse.repos.repository import Gate, Repository, Visibility
from gatehouse.schemas.hub import CreateRepo, DeleteRepo, MoveRepo, RepoSettings

router = APIRouter(route_class=BoundedRoute)

_Creator = Annotated[Actor, Depends(AccountGate(Permission.REPO_CREATE))]
_Chooser = Annotated[
    Actor, Depends(ChosenGate(Permission.REPO_ADMIN, "the repository is named in the body"))
]
_Administered = Annotated[Repository, Depends(RepoGate(Permission.REPO_ADMIN))]


@router.post("/api/repos/create")
def create(
    request: Request, services: ServicesDependency, actor: _Creator, body: CreateRepo
) -> dict[str, Any]:
    visibility = Visibility.PRIVATE if body.wants_private else Visibility.PUBLIC
    repo_id = _named(actor, body.organization, body.name)
    repository = services.repositories.create(actor, _kind(body.type), repo_id, visibility)
    return {
        "url": repo_url(request, repository),
        "name": str(repository.repo_id),
        "id": str(repository.id),
    }


@router.delete("/api/repos/delete")
def delete(
    services: ServicesDependency, actor: _Chooser, body: Annotated[DeleteRepo, Body()]
) -> dict[str, Any]:
    repo_id = _named(actor, body.organization, body.name)
    kind = _kind(body.type)
    repository = services.repositories.require(actor, kind, repo_id, Permission.REPO_ADMIN)
    services.repositories.delete(actor, repository)
    services.model_folders.remove(repository.storage_id)
    return {}


@router.post("/api/repos/move")
def move(
    request: Request, services: ServicesDependency, actor: _Chooser, body: MoveRepo
) -> dict[str, Any]:
    kind, source = _kind(body.type), RepoId.parse(body.fromRepo)
    repository = services.repositories.require(actor, kind, source, Permission.REPO_ADMIN)
    moved = services.repositories.move(actor, repository, RepoId.parse(body.toRepo))
    return {"url": repo_url(request, moved)}


@router.put("/api/{kind:kind}/{namespace:name}/{name:name}/settings")
def change_settings(
    services: ServicesDependency,
    actor: CurrentActor,
    repository: _Administered,
    body: RepoSettings,
) -> dict[str, Any]:
    change = SettingsChange(
        visibility=_visibility(body),
        gate=None if body.gated is None else Gate.from_wire(body.gated),
    )
    changed = services.repositories.change_settings(actor, repository, change)
    return {
        "visibility": changed.visibility.value,
        "private": changed.is_private,
        "gated": changed.gate.wire,
    }


def _visibility(body: RepoSettings) -> Visibility | None:
    if body.visibility is not None:
        return Visibility(body.visibility)
    if body.private is not None:
        return Visibility.PRIVATE if body.private else Visibility.PUBLIC
    return None


def _kind(repo_type: str | None) -> RepoKind:
    return RepoKind(repo_type) if repo_type else RepoKind.MODEL


def _named(actor: Actor, organization: str | None, name: str) -> RepoId:
    """The repository a body names; without an organisation it is the caller's own."""
    if "/" in name:
        return RepoId.parse(name)
    if organization:
        return RepoId(organization, name)
    if actor.user is None:
        raise Unauthenticated("You must be signed in.")
    return RepoId(actor.user.name, name)
