"""What an owner may change: visibility, gate, and whether the repository exists."""

from typing import Annotated

from fastapi import Depends, Form
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.http.actors import CurrentActor
from gatehouse.http.context import ServicesDependency
from gatehouse.http.csrf import CsrfDependency
from gatehouse.http.gates import RepoGate
from gatehouse.identity.actors import Actor
from gatehouse.identity.permissions import Permission
from gatehouse.repos.repositories import SettingsChange
from gatehouse.repos.repository import Gate, Repository, Visibility
from gatehouse.web.page_route import page_router
from gatehouse.web.render import see_other
from gatehouse.web.repository_pages import render_repository, root_of

router = page_router()

_PATH = "/{prefix:prefix}{namespace:name}/{name:name}/settings"
_Owned = Annotated[Repository, Depends(RepoGate(Permission.REPO_ADMIN))]


@router.get(_PATH)
def settings_page(request: Request, repository: _Owned, viewer: CurrentActor) -> Response:
    return _draw(request, viewer, repository)


@router.post(_PATH, dependencies=[CsrfDependency])
def change_settings(
    repository: _Owned,
    viewer: CurrentActor,
    services: ServicesDependency,
    visibility: Annotated[Visibility, Form()],
    gate: Annotated[Gate, Form()],
) -> Response:
    change = SettingsChange(visibility=visibility, gate=gate)
    services.repositories.change_settings(viewer, repository, change)
    return see_other(f"{root_of(repository)}/settings", "settings-saved")


@router.post(_PATH + "/delete", dependencies=[CsrfDependency])
def delete_repository(
    request: Request,
    repository: _Owned,
    viewer: CurrentActor,
    services: ServicesDependency,
    confirm: Annotated[str, Form()] = "",
) -> Response:
    if confirm.strip() != str(repository.repo_id):
        message = f"Nothing was deleted: type `{repository.repo_id}` to confirm."
        return _draw(request, viewer, repository, message, 400)
    services.repositories.delete(viewer, repository)
    return see_other(f"/{repository.repo_id.namespace}", "repository-deleted")


def _draw(
    request: Request,
    viewer: Actor,
    repository: Repository,
    error: str | None = None,
    status: int = 200,
) -> Response:
    form = {"visibility": repository.visibility.value, "gate": repository.gate.value}
    return render_repository(
        request,
        "repository_settings.html",
        viewer,
        repository,
        "settings",
        status_code=status,
        form=form,
        error=error,
    )
