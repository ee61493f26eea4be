"""Who is asking: the one place where a request becomes an `Actor`.

A Bearer token, a token as Basic password (git), or the session cookie of a page. A credential that
is given and wrong is refused; it never falls back to nobody.
"""

import base64
from typing import Annotated
from urllib.parse import urlsplit

from anyio.to_thread import run_sync
from fastapi import Depends
from starlette.requests import Request

from gatehouse.core.errors import Forbidden, Unauthenticated
from gatehouse.http.addresses import base_url
from gatehouse.http.context import services_of
from gatehouse.identity.actors import ANONYMOUS, Actor

SESSION_COOKIE = "gatehouse_session"
INVALID_CREDENTIALS = "Invalid credentials in Authorization header"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class InvalidCredentials(Unauthenticated):
    """The text is read by Hub clients: without it they report a missing repository."""

    def __init__(self) -> None:
        super().__init__(INVALID_CREDENTIALS)


class CrossSiteRequest(Forbidden):
    """A page of another site tried to act with somebody's session."""


def token_of(request: Request) -> str | None:
    """The access token a request carries, or None if it has no Authorization header.

    Raises:
        InvalidCredentials: The header cannot be read.
    """
    header = request.headers.get("authorization")
    if header is None:
        return None
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    if scheme.lower() == "basic":
        return _basic_password(value)
    raise InvalidCredentials


async def current_actor(request: Request) -> Actor:
    """Whoever sent the request; what answers it later finds them in `request.state.actor`.

    Raises:
        Unauthenticated: The credential is not valid, or no longer.
        CrossSiteRequest: A page of another site sent it.
    """
    actor = _remembered(request)
    if actor is None:
        actor = await run_sync(authenticated, request)
    request.state.actor = actor
    return actor


def authenticated(request: Request) -> Actor:
    """The same for callers that may wait for the database."""
    services = services_of(request)
    token = token_of(request)
    if token is not None:
        return services.tokens.authenticate(token)
    cookie = request.cookies.get(SESSION_COOKIE)
    actor = services.sessions.authenticate(cookie) if cookie else None
    if actor is None:
        return ANONYMOUS
    if request.method not in _SAFE_METHODS:
        require_same_origin(request)
    return actor


CurrentActor = Annotated[Actor, Depends(current_actor)]


def require_same_origin(request: Request) -> None:
    """Refuse a request that a page of another origin made a browser send.

    Raises:
        CrossSiteRequest: `Origin` or `Sec-Fetch-Site` says so.
    """
    if is_cross_origin(request):
        raise CrossSiteRequest("This request came from a page of another site.")


def is_cross_origin(request: Request) -> bool:
    """Whether a browser says that another origin's page made this request."""
    origin = request.headers.get("origin")
    if origin is not None:
        own = urlsplit(base_url(request))
        return origin.lower() != f"{own.scheme}://{own.netloc}".lower()
    return request.headers.get("sec-fetch-site", "none") in ("cross-site", "same-site")


def _remembered(request: Request) -> Actor | None:
    """Whoever sent the request, if nothing has to be read to know it: most requests, by far."""
    token = token_of(request)
    if token is not None:
        return services_of(request).tokens.remembered(token)
    return None if SESSION_COOKIE in request.cookies else ANONYMOUS


def _basic_password(value: str) -> str:
    try:
        decoded = base64.b64decode(value.strip(), validate=True).decode()
    except ValueError:  # not base64, or not text
        raise InvalidCredentials from None
    password = decoded.partition(":")[2]
    if not password:
        raise InvalidCredentials
    return password
