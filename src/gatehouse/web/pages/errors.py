"""Errors as pages of the same look. Which status an error has is decided in `http/errors.py`."""

from starlette.requests import Request
from starlette.responses import Response

from gatehouse.core.errors import GatehouseError
from gatehouse.http.actors import authenticated
from gatehouse.identity.actors import ANONYMOUS, Actor
from gatehouse.web.pages.accounts import draw_login
from gatehouse.web.render import render
from gatehouse.web.safe_paths import safe_path
from gatehouse.web.security import secure

_TITLES = {
    400: "That did not work",
    401: "Sign in first",
    403: "You may not do this",
    404: "Nothing here",
    409: "That clashes with something",
    413: "That is too large",
    429: "Too often",
    503: "Not now",
}


def render_error_page(request: Request, status: int, message: str) -> Response:
    """The page for an error; for a missing sign-in, the form that cures it."""
    viewer = _viewer(request)
    if status == 401 and viewer.is_anonymous:
        next_path = safe_path(request.url.path) if request.method == "GET" else "/"
        return secure(draw_login(request, viewer, next_path, status=status, reason=message))
    title = _TITLES.get(status, "Something went wrong" if status >= 500 else "That did not work")
    response = render(
        request,
        "error.html",
        viewer,
        status,
        title=title,
        message=message,
        back=_repository_path(request) if status == 403 else None,
    )
    return secure(response)


def _viewer(request: Request) -> Actor:
    """Who looks at the page; nobody if that was the error."""
    try:
        return authenticated(request)
    except GatehouseError:
        return ANONYMOUS


def _repository_path(request: Request) -> str | None:
    parameters = request.path_params
    kind = parameters.get("prefix")
    if kind is None or "namespace" not in parameters or "name" not in parameters:
        return None
    return f"{kind.url_prefix}{parameters['namespace']}/{parameters['name']}"
