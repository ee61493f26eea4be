"""Route on the path as it was sent, so that an encoded slash stays inside its segment.

Hub clients write `refs%2Fpr%2F3` for a revision and `a%2Fb` for a folder as one segment each.
Servers decode the path before routing, which loses the border. This middleware decodes all but
`%2F` and `%25`; `decoded` finishes the job for one parameter.
"""

import re
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

from gatehouse.http.endings import note_route

_KEPT = (b"%2F", b"%25")
_ESCAPE = re.compile(rb"%(?:[0-9A-Fa-f]{2})?")


class RawPathMiddleware:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope.get("raw_path") if scope["type"] == "http" else None
        if raw and b"%" in raw:
            scope = {**scope, "path": _decode(raw.partition(b"?")[0])}
        try:
            await self.app(scope, receive, send)
        finally:
            note_route(scope)


def _decode(raw: bytes) -> str:
    def replace(match: re.Match[bytes]) -> bytes:
        escape = match.group().upper()
        if escape == b"%":
            # A sign that escapes nothing must not come to escape what is decoded behind it.
            return b"%25"
        return escape if escape in _KEPT else bytes([int(escape[1:], 16)])

    return _ESCAPE.sub(replace, raw).decode("utf-8", "replace")


def decoded(parameter: str) -> str:
    """A path parameter as the client meant it: `%2F` and `%25` undone."""
    return unquote(parameter, errors="replace")
