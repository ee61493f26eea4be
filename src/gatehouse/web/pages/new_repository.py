"""Create a repository."""

from typing import Annotated, Literal

from fastapi import Depends, Form
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.core.errors import Conflict, Forbidden, Invalid
from gatehouse.core.ids import RepoId, RepoKind, check_name_part
from gatehouse.http.context import ServicesDependency
from gatehouse.http.csrf import CsrfDependency
from gatehouse.http.gates import AccountGate
from gatehouse.identity.actors import Actor, OrganizationRole, User
from gatehouse.identity.permissions import Permission
from gatehouse.repos.repository import Gate, Visibility
from gatehouse.web.page_route import page_router
from gatehouse.web.render import render, see_other
from gatehouse.web.repository_pages import root_of

router = page_router()

_Creator = Annotated[Actor, Depends(AccountGate(Permission.REPO_CREATE))]


@router.get("/new")
def new_page(
    request: Request, viewer: _Creator, kind: Literal["model", "dataset", "space"] = "model"
) -> Response:
    form = {"kind": kind, "namespace": "", "name": "", "visibility": "public", "gate": "open"}
    return _draw(request, viewer, form)


@router.post("/new", dependencies=[CsrfDependency])
def create(
    request: Request,
    viewer: _Creator,
    services: ServicesDependency,
    namespace: Annotated[str, Form()],
    name: Annotated[str, Form()] = "",
    kind: Annotated[RepoKind, Form()] = RepoKind.MODEL,
    visibility: Annotated[Visibility, Form()] = Visibility.PUBLIC,
    gate: Annotated[Gate, Form()] = Gate.OPEN,
) -> Response:
    name = name.strip()
    try:
        repo_id = RepoId(namespace, check_name_part(name, "name"))
        repository = services.repositories.create(viewer, kind, repo_id, visibility, gate)
    except (Invalid, Conflict, Forbidden) as error:
        form = {
            "kind": kind.value,
            "namespace": namespace,
            "name": name,
            "visibility": visibility.value,
            "gate": gate.value,
        }
        status = 409 if isinstance(error, Conflict) else 400
        return _draw(request, viewer, form, error.message, status)
    return see_other(root_of(repository), "repository-created")


def _draw(
    request: Request,
    viewer: Actor,
    form: dict[str, str],
    error: str | None = None,
    status: int = 200,
) -> Response:
    assert viewer.user is not None
    owners = _owners(viewer.user)
    return render(
        request, "new_repository.html", viewer, status, form=form, owners=owners, error=error
    )


def _owners(user: User) -> list[str]:
    writable = (OrganizationRole.WRITE, OrganizationRole.ADMIN)
    return [user.name, *(m.organization_name for m in user.memberships if m.role in writable)]
