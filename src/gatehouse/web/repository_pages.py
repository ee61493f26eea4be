"""What all pages of one repository show: header, this visitor's tabs, revision looked at."""

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gatehouse.http.context import Services, services_of
from gatehouse.identity.actors import Actor
from gatehouse.identity.permissions import Permission
from gatehouse.repos.gating import RequestStatus
from gatehouse.repos.repository import Repository
from gatehouse.web.render import render

DEFAULT_REVISION = "main"


@dataclass(frozen=True, slots=True)
class RepositoryFrame:
    """The visitor's view of the repository.

    Attributes:
        may_read: Whether the visitor may have the bytes.
        num_pending: Requests that wait for the visitor's decision.
    """

    repository: Repository
    revision: str
    may_read: bool
    may_admin: bool
    num_pending: int


def frame_of(
    services: Services, viewer: Actor, repository: Repository, revision: str = DEFAULT_REVISION
) -> RepositoryFrame:
    may_admin = services.access.allows(viewer, repository, Permission.REPO_ADMIN)
    num_pending = 0
    if may_admin and repository.is_gated:
        num_pending = len(services.gating.list(repository, RequestStatus.PENDING))
    return RepositoryFrame(
        repository=repository,
        revision=revision,
        may_read=services.access.allows(viewer, repository, Permission.REPO_CONTENT),
        may_admin=may_admin,
        num_pending=num_pending,
    )


def render_repository(
    request: Request,
    template: str,
    viewer: Actor,
    repository: Repository,
    tab: str,
    *,
    revision: str = DEFAULT_REVISION,
    status_code: int = 200,
    **context: Any,
) -> Response:
    """Draw a page inside the repository's frame; `tab` is the one to mark."""
    frame = frame_of(services_of(request), viewer, repository, revision)
    return render(
        request,
        template,
        viewer,
        status_code,
        frame=frame,
        repository=repository,
        root=root_of(repository),
        tab=tab,
        **context,
    )


def root_of(repository: Repository) -> str:
    return f"/{repository.path}"
