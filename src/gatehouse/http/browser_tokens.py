"""Access tokens stay on servers: what a browser page of another origin may and may not do.

Pages of other origins may call the hub (CORS), but never with an access token. Such a token was
shipped to browsers, so the request is refused with the reason and the owner sees a warning.
"""

import re

from anyio.to_thread import run_sync
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gatehouse.core.errors import GatehouseError
from gatehouse.http.actors import is_cross_origin, token_of
from gatehouse.http.context import services_of
from gatehouse.http.errors import header_safe

_REFUSAL = (
    "Access tokens must not be used from web pages: everyone who opens the page can read them. "
    "Call the hub from your server and keep the token there. The token's owner has been warned."
)
_ALLOW_HEADERS = (
    "authorization, content-type, range, accept, x-request-id, x-use-cache, x-wait-for-model, "
    "x-load-model, x-compute-type, x-hf-bill-to"
)
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_EXPOSED = (
    "ETag, Link, Location, Content-Range, Content-Length, Accept-Ranges, X-Repo-Commit, "
    "X-Linked-Size, X-Linked-ETag, X-Error-Code, X-Error-Message, X-Total-Count, X-Request-Id, "
    "X-Xet-Hash, X-Compute-Type, X-Compute-Time, X-Compute-Characters, X-Total-Time, "
    "X-Validation-Time, X-Queue-Time, X-Inference-Time, X-Time-Per-Token, X-Prompt-Tokens, "
    "X-Generated-Tokens, X-Cache, X-Should-Retry, RateLimit, RateLimit-Policy, Retry-After"
)
# OpenAI's clients describe themselves in headers of this form, more with every version.
_ALLOWED_FAMILY = re.compile(r"x-stainless-[a-z0-9\-]{1,64}")


class BrowserTokenMiddleware:
    """Answers preflights, adds CORS headers, refuses tokens that another origin's page sends."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if scope["method"] == "OPTIONS":
            await _preflight(headers)(scope, receive, send)
            return
        if "authorization" in headers and _from_browser(headers):
            refusal = await run_sync(_refusal, Request(scope))
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self.app(scope, receive, _with_cors(send) if origin else send)


def _from_browser(headers: Headers) -> bool:
    return "origin" in headers or "sec-fetch-site" in headers


def _refusal(request: Request) -> Response | None:
    try:
        if not is_cross_origin(request):
            return None
        token = token_of(request)
    except GatehouseError:
        return None
    origin = request.headers.get("origin") or request.headers.get("referer") or "unknown"
    if token is not None:
        services_of(request).tokens.record_leak(token, origin[:300])
    headers = {
        "X-Error-Code": "TokenInBrowser",
        "X-Error-Message": header_safe(_REFUSAL),
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Expose-Headers": _EXPOSED,
    }
    return JSONResponse({"error": _REFUSAL}, 403, headers)


def _preflight(headers: Headers) -> Response:
    """The answer to `OPTIONS` of any address, whoever asks."""
    asked = headers.get("access-control-request-headers", "").lower().split(",")
    family = [name.strip() for name in asked if _ALLOWED_FAMILY.fullmatch(name.strip())]
    return Response(
        status_code=204,
        headers={
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": ", ".join([_ALLOW_HEADERS, *family]),
            "Access-Control-Max-Age": "86400",
        },
    )


def _with_cors(send: Send) -> Send:
    async def send_with_cors(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.setdefault("Access-Control-Allow-Origin", "*")
            headers.setdefault("Access-Control-Expose-Headers", _EXPOSED)
        await send(message)

    return send_with_cors
