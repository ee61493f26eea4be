"""What every page tells the browser: run only our own files, frame us nowhere, keep quiet."""

from starlette.responses import Response

# No inline style or script, nothing from elsewhere: a script in a card or a name stays text.
_POLICY = {
    "default-src": "'none'",
    "style-src": "'self'",
    "script-src": "'self'",
    "img-src": "'self' data:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}

CONTENT_SECURITY_POLICY = "; ".join(f"{name} {value}" for name, value in _POLICY.items())

PAGE_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    # A page differs by who looks at it, and the next person at this screen must not see it.
    "Cache-Control": "no-store",
    "Vary": "Cookie",
}


def secure(response: Response) -> Response:
    """Add the headers of a page."""
    for name, value in PAGE_HEADERS.items():
        response.headers[name] = value
    return response
