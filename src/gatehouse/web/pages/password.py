"""Change one's own password."""

from typing import Annotated

from fastapi import Depends, Form
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.core.errors import Invalid
from gatehouse.http.context import ServicesDependency
from gatehouse.http.csrf import CsrfDependency
from gatehouse.http.gates import AccountGate
from gatehouse.identity.actors import Actor
from gatehouse.identity.permissions import Permission
from gatehouse.identity.users import WrongPassword
from gatehouse.web.page_route import page_router
from gatehouse.web.render import render, see_other

router = page_router()

_Owner = Annotated[Actor, Depends(AccountGate(Permission.ACCOUNT_WRITE))]


@router.get("/settings/password")
def password_page(request: Request, viewer: _Owner) -> Response:
    return render(request, "password.html", viewer, error=None)


@router.post("/settings/password", dependencies=[CsrfDependency])
def change_password(
    request: Request,
    viewer: _Owner,
    services: ServicesDependency,
    current: Annotated[str, Form()] = "",
    new: Annotated[str, Form()] = "",
) -> Response:
    assert viewer.user is not None
    try:
        services.users.change_password(viewer.user.id, current, new, keep_session=viewer.session_id)
    except WrongPassword:
        message = "The present password is not right."
        return render(request, "password.html", viewer, 403, error=message)
    except Invalid as error:
        return render(request, "password.html", viewer, 400, error=error.message)
    return see_other("/settings/password", "password-changed")
