"""Approve the sign-in of a program that has no browser (`hf auth login`; RFC 8628)."""

from typing import Annotated, Literal

from fastapi import Depends, Form
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.core.errors import Invalid, NotFound
from gatehouse.http.context import ServicesDependency
from gatehouse.http.csrf import CsrfDependency
from gatehouse.http.gates import AccountGate
from gatehouse.identity.actors import Actor
from gatehouse.identity.device_flow import PendingDevice
from gatehouse.identity.permissions import Permission
from gatehouse.web.page_route import page_router
from gatehouse.web.render import render, see_other

router = page_router()

_Owner = Annotated[Actor, Depends(AccountGate(Permission.ACCOUNT_WRITE))]


@router.get("/device")
def device_page(
    request: Request, viewer: _Owner, services: ServicesDependency, user_code: str = ""
) -> Response:
    """Asks for the code, then shows what it stands for. Looking approves nothing."""
    if not user_code:
        return _draw(request, viewer)
    try:
        pending = services.device_flow.pending(user_code)
    except (Invalid, NotFound) as error:
        return _draw(request, viewer, user_code=user_code[:20], error=error.message, status=404)
    return _draw(request, viewer, pending=pending)


@router.post("/device", dependencies=[CsrfDependency])
def decide_device(
    request: Request,
    viewer: _Owner,
    services: ServicesDependency,
    user_code: Annotated[str, Form()],
    decision: Annotated[Literal["approve", "deny"], Form()],
) -> Response:
    assert viewer.user is not None
    try:
        if decision == "approve":
            services.device_flow.approve(user_code, viewer.user)
        else:
            services.device_flow.deny(user_code, viewer.user)
    except (Invalid, NotFound) as error:
        return _draw(request, viewer, error=error.message, status=404)
    return see_other("/device", "device-approved" if decision == "approve" else "device-denied")


def _draw(
    request: Request,
    viewer: Actor,
    *,
    pending: PendingDevice | None = None,
    user_code: str = "",
    error: str | None = None,
    status: int = 200,
) -> Response:
    context = {"pending": pending, "user_code": user_code, "error": error}
    return render(request, "device.html", viewer, status, **context)
