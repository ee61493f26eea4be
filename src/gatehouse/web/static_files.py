"""Our own stylesheet, script and mark. Their addresses hold a digest, so browsers may keep them."""

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from gatehouse.web.render import STATIC_FOLDER


class PageFiles(StaticFiles):
    def __init__(self) -> None:
        super().__init__(directory=STATIC_FOLDER)

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        has_digest = scope.get("query_string", b"").startswith(b"v=")
        keep = "public, max-age=31536000, immutable" if has_digest else "no-cache"
        response.headers["Cache-Control"] = keep
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response
