"""Send a file's bytes: whole by the server's own file sending, parts by range.

Never compressed: Hub clients could not resume.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
# Each piece is read by a worker thread, so small ones would cost more in hand-overs than in bytes.
_PIECE_BYTES = 512 * 1024
_ALWAYS = {
    "Accept-Ranges": "bytes",
    # Whether the reader still has access is asked each time, and an unchanged file costs a 304.
    "Cache-Control": "private, no-cache",
    # User content must never run in our origin, whatever it says it is.
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
# Equal bytes are stored once, so a file's own time would tell when a stranger uploaded the same.
_NO_DATE = "Thu, 01 Jan 1970 00:00:00 GMT"


def send_path(request: Request, path: Path, size: int, headers: Mapping[str, str]) -> Response:
    """A file on this disk; `headers` hold its `ETag`. Ranges and HEAD are the framework's work."""
    if size == 0:
        return send_bytes(request, b"", headers)
    headers = {**_ALWAYS, **headers}
    if _is_current(request, headers):
        return Response(status_code=304, headers=headers)
    return FileResponse(path, headers={**headers, "Last-Modified": _NO_DATE})


def send_bytes(request: Request, content: bytes, headers: Mapping[str, str]) -> Response:
    """A small file from memory, with single ranges (RFC 9110 §14)."""
    headers = {**_ALWAYS, **headers}
    if _is_current(request, headers):
        return Response(status_code=304, headers=headers)
    span = requested_range(request, len(content), headers.get("ETag"))
    if span is None:
        return _part(request, content, 200, headers)
    start, end = span
    if not content and start == 0:
        # Browser clients probe with `bytes=0-0`; a 416 would read as "no such file".
        return _part(request, b"", 206, {**headers, "Content-Range": "bytes 0-0/0"})
    if start >= len(content):
        return _part(request, b"", 416, {**headers, "Content-Range": f"bytes */{len(content)}"})
    headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
    return _part(request, content[start : end + 1], 206, headers)


def send_part(path: Path, first: int, last: int, size: int) -> Response:
    """Bytes `first` to `last` (inclusive) of a file of `size` bytes on this disk, as 206."""
    headers = {
        **_ALWAYS,
        "Content-Type": "application/octet-stream",
        "Content-Range": f"bytes {first}-{last}/{size}",
        "Content-Length": str(last - first + 1),
        "Last-Modified": _NO_DATE,
    }
    if (first, last) == (0, size - 1):
        # All of it: the server can send the file itself.
        return FileResponse(path, 206, headers)
    return StreamingResponse(_pieces(path, first, last + 1), 206, headers)


def unsatisfiable(size: int) -> Response:
    """No byte of the range asked for may be sent (RFC 9110 §15.5.17)."""
    return Response(status_code=416, headers={**_ALWAYS, "Content-Range": f"bytes */{size}"})


def content_disposition(name: str) -> str:
    """`inline` under the file's own name (RFC 6266), whatever characters it has."""
    plain = "".join(c if c.isascii() and c.isprintable() else "?" for c in name)
    plain = plain.replace('"', "").replace("\\", "")
    encoded = quote(name, safe="", errors="replace")
    return f"inline; filename*=UTF-8''{encoded}; filename=\"{plain}\";"


def _part(request: Request, content: bytes, status: int, headers: Mapping[str, str]) -> Response:
    length = {"Content-Length": str(len(content))}
    return Response(b"" if request.method == "HEAD" else content, status, {**headers, **length})


def _is_current(request: Request, headers: Mapping[str, str]) -> bool:
    """Whether the client has this very content already (RFC 9110 §13.1.2)."""
    known = request.headers.get("if-none-match")
    if known is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in known.split(",")}
    return "*" in tags or headers.get("ETag") in tags


def requested_range(request: Request, size: int, etag: str | None = None) -> tuple[int, int] | None:
    """First and last byte asked for, or None for the whole; the first may lie past the end."""
    match = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if_range = request.headers.get("if-range")
    if match is None or (if_range is not None and if_range != etag):
        return None
    first, last = match.groups()
    if not first:
        return _suffix(int(last), size) if last else None
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last), size - 1) if last else size - 1


def _pieces(path: Path, start: int, end: int) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while piece := file.read(min(_PIECE_BYTES, end - file.tell())):
            yield piece


def _suffix(length: int, size: int) -> tuple[int, int]:
    return (max(0, size - length), size - 1) if length else (size, size)
