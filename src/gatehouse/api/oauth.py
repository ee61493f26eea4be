"""Sign-in of programs by the OAuth device flow (RFC 8628), as `hf auth login` does it.

Bodies are forms, answers and errors are OAuth's JSON. The page where a person approves is in `web`.
"""

from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gatehouse.http.addresses import base_url
from gatehouse.http.bodies import read_body
from gatehouse.http.client_address import client_address
from gatehouse.http.context import ServicesDependency
from gatehouse.http.gates import PublicGate
from gatehouse.identity.device_flow import DeviceFlow, IssuedToken, OAuthError

router = APIRouter()

_DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
_MAX_FORM_BYTES = 16 * 1024
_MAX_FIELDS = 20
_STARTS = PublicGate("starts a sign-in that gives nothing until a signed-in person approves it")
_ENDS = PublicGate("the device code or refresh token in the body is the credential")
# RFC 6749, section 5.1: nobody on the way may keep a token.
_NOT_KEPT = {"Cache-Control": "no-store", "Pragma": "no-cache"}


class MalformedForm(OAuthError):
    """A field is missing, or the body is not a form."""


class UnsupportedGrantType(OAuthError):
    error = "unsupported_grant_type"


async def form_fields(request: Request) -> dict[str, str]:
    """The fields of an urlencoded body; what is no form has none.

    Raises:
        TooLarge: The body is over 16 KiB.
    """
    body = await read_body(request, _MAX_FORM_BYTES)
    if "application/x-www-form-urlencoded" not in request.headers.get("content-type", ""):
        return {}
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        return {}
    return dict(pairs)


Form = Annotated[dict[str, str], Depends(form_fields)]


@router.post("/oauth/device", dependencies=[Depends(_STARTS)])
def start_device(request: Request, services: ServicesDependency, form: Form) -> Response:
    """Hand out a device code and the code that a person types."""
    services.sign_in_limits.take_device_sign_in(client_address(request))
    try:
        grant = services.device_flow.start(_field(form, "client_id"))
    except OAuthError as error:
        return _refusal(error)
    page = f"{base_url(request)}/device"
    return _answer(
        {
            "device_code": grant.device_code,
            "user_code": grant.user_code,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?user_code={grant.user_code}",
            "interval": grant.interval,
            "expires_in": grant.expires_in,
        }
    )


@router.post("/oauth/token", dependencies=[Depends(_ENDS)])
def token(services: ServicesDependency, form: Form) -> Response:
    """Exchange an approved device code, or a refresh token, for an access token."""
    try:
        issued = _exchange(services.device_flow, form)
    except OAuthError as error:
        return _refusal(error)
    return _answer(
        {
            "access_token": issued.access_token,
            "refresh_token": issued.refresh_token,
            "token_type": "bearer",
            "expires_in": issued.expires_in,
        }
    )


def _exchange(device_flow: DeviceFlow, form: dict[str, str]) -> IssuedToken:
    grant_type = _field(form, "grant_type")
    if grant_type == _DEVICE_CODE:
        return device_flow.poll(_field(form, "device_code"), _field(form, "client_id"))
    if grant_type == "refresh_token":
        return device_flow.refresh(_field(form, "refresh_token"), _field(form, "client_id"))
    raise UnsupportedGrantType(
        f"`grant_type` must be `{_DEVICE_CODE}` or `refresh_token`; others are not built."
    )


def _field(form: dict[str, str], name: str) -> str:
    value = form.get(name)
    if not value:
        raise MalformedForm(
            f"`{name}` is missing: send it in an application/x-www-form-urlencoded body."
        )
    return value


def _answer(content: dict[str, Any]) -> JSONResponse:
    return JSONResponse(content, headers=_NOT_KEPT)


def _refusal(error: OAuthError) -> JSONResponse:
    content = {"error": error.error, "error_description": error.message}
    return JSONResponse(content, 400, _NOT_KEPT)
