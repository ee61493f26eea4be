"""A hidden field in every form of a signed-in person: no other site's page can send the form."""

from typing import Annotated

from fastapi import Depends, Form
from starlette.requests import Request

from gatehouse.core.errors import Forbidden
from gatehouse.http.actors import SESSION_COOKIE, require_same_origin
from gatehouse.identity.sessions import csrf_token, is_csrf_token


class CsrfTokenWrong(Forbidden):
    """The form was not drawn for this session."""


def csrf_token_for(request: Request) -> str:
    """The value for the form's `csrf_token` field; empty for somebody who is not signed in."""
    cookie = request.cookies.get(SESSION_COOKIE)
    return csrf_token(cookie) if cookie else ""


def check_csrf(request: Request, token: Annotated[str, Form(alias="csrf_token")] = "") -> None:
    """Refuse a form that was not drawn for this session, or came from another origin.

    Raises:
        CsrfTokenWrong: The field is missing or of another session.
        CrossSiteRequest: The browser says so.
    """
    require_same_origin(request)
    cookie = request.cookies.get(SESSION_COOKIE)
    if cookie is not None and not is_csrf_token(cookie, token):
        raise CsrfTokenWrong("This form has gone stale. Go back, reload the page and try again.")


CsrfDependency = Depends(check_csrf)
