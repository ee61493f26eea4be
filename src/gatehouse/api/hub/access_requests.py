"""The owner's side of a gate: see who asked, accept, reject, cancel, grant."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from gatehouse.core.clock import to_wire
from gatehouse.core.errors import Invalid
from gatehouse.http.actors import CurrentActor
from gatehouse.http.bounded_route import BoundedRoute
from gatehouse.http.context import ServicesDependency
from gatehouse.http.gates import RepoGate
from gatehouse.identity.permissions import Permission
from gatehouse.repos.gating import AccessRequest, RequestStatus
from gatehouse.repos.repository import Repository
from gatehouse.schemas.hub import GrantAccess, HandleAccessRequest

router = APIRouter(route_class=BoundedRoute)

_Owned = Annotated[Repository, Depends(RepoGate(Permission.REPO_ADMIN))]
_NUMBER = re.compile(r"[0-9]{1,18}")
_BASE = "/api/{kind:kind}/{namespace:name}/{name:name}/user-access-request"


@router.get(_BASE + "/{status}")
def requests_by_status(
    status: RequestStatus, services: ServicesDependency, repository: _Owned
) -> list[dict[str, Any]]:
    return [_wire(item) for item in services.gating.list(repository, status)]


@router.post(_BASE + "/handle")
def handle(
    services: ServicesDependency,
    actor: CurrentActor,
    repository: _Owned,
    body: HandleAccessRequest,
) -> dict[str, Any]:
    handled = services.gating.handle(
        actor,
        repository,
        RequestStatus(body.status),
        user=body.user,
        request_id=_number(body.requestId),
        reason=body.rejectionReason,
    )
    return _wire(handled)


@router.post(_BASE + "/grant")
def grant(
    services: ServicesDependency, actor: CurrentActor, repository: _Owned, body: GrantAccess
) -> dict[str, Any]:
    return _wire(services.gating.grant(actor, repository, body.user))


def _number(given: int | str | None) -> int | None:
    if given is None:
        return None
    if not _NUMBER.fullmatch(str(given)):
        raise Invalid("`requestId` must be the number from the list of requests.")
    return int(given)


def _wire(item: AccessRequest) -> dict[str, Any]:
    return {
        "requestId": str(item.id),
        "status": item.status.value,
        "timestamp": to_wire(item.created_at),
        "user": {"user": item.user_name, "fullname": item.fullname, "email": item.email},
        "fields": item.fields,
        **({"rejectionReason": item.rejection_reason} if item.rejection_reason else {}),
    }
