"""Templates to responses. Every page sees who looks at it, and nothing of the services."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gatehouse.http.context import services_of
from gatehouse.http.csrf import csrf_token_for
from gatehouse.identity.actors import Actor
from gatehouse.web.formats import full_time, human_ago, human_count, human_size, machine_time
from gatehouse.web.notices import notice_of

_HERE = Path(__file__).parent
STATIC_FOLDER = _HERE / "static"


def render(
    request: Request,
    template: str,
    viewer: Actor,
    status_code: int = 200,
    **context: Any,
) -> Response:
    """Draw a page for `viewer`."""
    services = services_of(request)
    html = (
        _environment()
        .get_template(template)
        .render(
            viewer=viewer,
            user=viewer.user,
            csrf_token=csrf_token_for(request),
            now=services.clock.now(),
            status_code=status_code,
            notice=notice_of(request.query_params.get("notice")),
            here=request.url.path,
            allow_signup=services.settings.allow_signup,
            **context,
        )
    )
    return HTMLResponse(html, status_code)


def see_other(path: str, notice: str | None = None) -> Response:
    """Send the browser on after a form, with a notice of `notices.py` to show there."""
    return RedirectResponse(f"{path}?notice={notice}" if notice else path, 303)


@lru_cache(1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["size"] = human_size
    environment.filters["count"] = human_count
    environment.filters["ago"] = _ago
    environment.filters["path"] = _path
    environment.globals["static"] = _static_url
    return environment


@pass_context
def _ago(context: Context, moment: Any) -> Markup:
    text = human_ago(moment, context["now"])
    template = Markup('<time datetime="{}" title="{}">{}</time>')
    return template.format(machine_time(moment), full_time(moment), text)


def _path(text: str, safe: str = "/") -> str:
    return quote(text, safe=safe)


@lru_cache(64)
def _static_url(name: str) -> str:
    """The address of a static file; its digest in it lets browsers keep it for good."""
    digest = hashlib.sha256((STATIC_FOLDER / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"
