"""Sign up, sign in, sign out."""

from typing import Annotated

from fastapi import Depends, Form
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.core.errors import Conflict, Forbidden, Invalid, Limited
from gatehouse.http.actors import SESSION_COOKIE
from gatehouse.http.addresses import base_url
from gatehouse.http.client_address import client_address
from gatehouse.http.context import Services, ServicesDependency
from gatehouse.http.csrf import CsrfDependency
from gatehouse.http.gates import PublicGate
from gatehouse.identity.actors import Actor, User
from gatehouse.identity.sessions import LIFETIME
from gatehouse.identity.users import WrongPassword
from gatehouse.web.page_route import page_router
from gatehouse.web.render import render, see_other
from gatehouse.web.safe_paths import safe_path

router = page_router()

_Visitor = Annotated[Actor, Depends(PublicGate("whoever comes here has yet to say who they are"))]
_Text = Annotated[str, Form()]


class SignUpClosed(Forbidden):
    """The operator creates the accounts."""

    def __init__(self) -> None:
        super().__init__("Accounts on this hub are created by its administrator.")


@router.get("/login")
def login_page(request: Request, viewer: _Visitor, next: str = "/") -> Response:  # noqa: A002
    next_path = safe_path(next)
    if not viewer.is_anonymous:
        return see_other(next_path)
    return draw_login(request, viewer, next_path)


@router.post("/login", dependencies=[CsrfDependency])
def login(
    request: Request,
    viewer: _Visitor,
    services: ServicesDependency,
    username: _Text = "",
    password: _Text = "",
    next: _Text = "/",  # noqa: A002
) -> Response:
    next_path, username = safe_path(next), username.strip()
    address = client_address(request)
    try:
        services.sign_in_limits.take_sign_in(address, username)
        user = services.users.authenticate(username, password)
    except Limited as error:
        return draw_login(request, viewer, next_path, username, error.message, 429)
    except WrongPassword as error:
        return draw_login(request, viewer, next_path, username, error.message, 401)
    services.sign_in_limits.forgive_sign_in(address, username)
    return _signed_in(request, services, user, see_other(next_path))


@router.get("/join")
def join_page(
    request: Request,
    viewer: _Visitor,
    services: ServicesDependency,
    next: str = "/",  # noqa: A002
) -> Response:
    if not services.settings.allow_signup:
        raise SignUpClosed
    if not viewer.is_anonymous:
        return see_other(safe_path(next))
    return _draw_join(request, viewer, safe_path(next))


@router.post("/join", dependencies=[CsrfDependency])
def join(
    request: Request,
    viewer: _Visitor,
    services: ServicesDependency,
    username: _Text = "",
    email: _Text = "",
    password: _Text = "",
    next: _Text = "/",  # noqa: A002
) -> Response:
    if not services.settings.allow_signup:
        raise SignUpClosed
    next_path, username, email = safe_path(next), username.strip(), email.strip()
    try:
        services.sign_in_limits.take_sign_up(client_address(request))
        user = services.users.create(username, email, password)
    except Limited as error:
        return _draw_join(request, viewer, next_path, username, email, error.message, 429)
    except (Invalid, Conflict) as error:
        status = 409 if isinstance(error, Conflict) else 400
        return _draw_join(request, viewer, next_path, username, email, error.message, status)
    notice = "welcome" if next_path == "/" else None
    return _signed_in(request, services, user, see_other(next_path, notice))


@router.post("/logout", dependencies=[CsrfDependency])
def logout(request: Request, viewer: _Visitor, services: ServicesDependency) -> Response:
    cookie = request.cookies.get(SESSION_COOKIE)
    if cookie:
        services.sessions.end(cookie)
    response = see_other("/", "signed-out")
    response.delete_cookie(SESSION_COOKIE, path="/")
    return response


def draw_login(
    request: Request,
    viewer: Actor,
    next_path: str,
    username: str = "",
    error: str | None = None,
    status: int = 200,
    reason: str | None = None,
) -> Response:
    """The sign-in form; `reason` says why somebody who did not ask for it sees it."""
    context = {"next": next_path, "username": username, "error": error, "reason": reason}
    return render(request, "login.html", viewer, status, **context)


def _draw_join(
    request: Request,
    viewer: Actor,
    next_path: str,
    username: str = "",
    email: str = "",
    error: str | None = None,
    status: int = 200,
) -> Response:
    context = {"next": next_path, "username": username, "email": email, "error": error}
    return render(request, "join.html", viewer, status, **context)


def _signed_in(request: Request, services: Services, user: User, response: Response) -> Response:
    """Start a session; the cookie is kept from scripts and from other sites' requests."""
    old = request.cookies.get(SESSION_COOKIE)
    if old:
        services.sessions.end(old)
    response.set_cookie(
        SESSION_COOKIE,
        services.sessions.start(user, request.headers.get("user-agent", "")),
        max_age=int(LIFETIME.total_seconds()),
        path="/",
        secure=base_url(request).startswith("https:"),
        httponly=True,
        samesite="lax",
    )
    return response
