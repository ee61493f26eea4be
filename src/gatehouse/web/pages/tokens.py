"""Settings, access tokens: make one, see it once, refresh it, delete it, hear of a leak."""

from typing import Annotated

from fastapi import Depends, Form
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.core.errors import Conflict, Invalid
from gatehouse.http.context import ServicesDependency
from gatehouse.http.csrf import CsrfDependency
from gatehouse.http.gates import AccountGate
from gatehouse.identity.actors import Actor, User
from gatehouse.identity.permissions import Permission, TokenRole
from gatehouse.identity.tokens import InvalidTokenRequest, NewToken
from gatehouse.web.page_route import page_router
from gatehouse.web.render import render, see_other

router = page_router()

_PATH = "/settings/tokens"
# Sessions carry it, tokens do not: a token that leaked cannot make another one.
_Owner = Annotated[Actor, Depends(AccountGate(Permission.ACCOUNT_WRITE))]


@router.get(_PATH)
def tokens_page(request: Request, viewer: _Owner, services: ServicesDependency) -> Response:
    return _draw(request, viewer, services)


@router.post(_PATH, dependencies=[CsrfDependency])
def create_token(
    request: Request,
    viewer: _Owner,
    services: ServicesDependency,
    name: Annotated[str, Form()] = "",
    role: Annotated[str, Form()] = TokenRole.READ.value,
) -> Response:
    """Answers with the value instead of a redirect: it exists in this one response."""
    try:
        if role not in set(TokenRole):
            raise InvalidTokenRequest("`role` must be `read` or `write`.")
        fresh = services.tokens.create(_user(viewer).id, name, TokenRole(role))
    except (Invalid, Conflict) as error:
        status = 409 if isinstance(error, Conflict) else 400
        return _draw(request, viewer, services, status, error=error.message, name=name, role=role)
    return _draw(request, viewer, services, fresh=fresh, fresh_is_new=True)


@router.post(_PATH + "/{token_id:int}/refresh", dependencies=[CsrfDependency])
def refresh_token(
    request: Request, token_id: int, viewer: _Owner, services: ServicesDependency
) -> Response:
    fresh = services.tokens.refresh(_user(viewer).id, token_id)
    return _draw(request, viewer, services, fresh=fresh)


@router.post(_PATH + "/{token_id:int}/delete", dependencies=[CsrfDependency])
def delete_token(token_id: int, viewer: _Owner, services: ServicesDependency) -> Response:
    services.tokens.delete(_user(viewer).id, token_id)
    return see_other(_PATH, "token-deleted")


@router.post(_PATH + "/{token_id:int}/dismiss", dependencies=[CsrfDependency])
def dismiss_leak(token_id: int, viewer: _Owner, services: ServicesDependency) -> Response:
    services.tokens.dismiss_leak(_user(viewer).id, token_id)
    return see_other(_PATH, "leak-dismissed")


def _draw(
    request: Request,
    viewer: Actor,
    services: ServicesDependency,
    status: int = 200,
    *,
    fresh: NewToken | None = None,
    fresh_is_new: bool = False,
    error: str | None = None,
    name: str = "",
    role: str = TokenRole.READ.value,
) -> Response:
    return render(
        request,
        "tokens.html",
        viewer,
        status,
        tokens=services.tokens.list(_user(viewer).id),
        fresh=fresh,
        fresh_is_new=fresh_is_new,
        error=error,
        name=name,
        role=role,
    )


def _user(viewer: Actor) -> User:
    assert viewer.user is not None
    return viewer.user
