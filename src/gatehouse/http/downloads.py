"""Send a file's bytes: whole by the server's own file sending, parts by range.

Never compressed: Hub clients could not resume.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, Response

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def send_path(path: Path, size: int, headers: Mapping[str, str]) -> Response:
    """A file on this disk; ranges, `If-Range` and HEAD are the framework's work."""
    return FileResponse(path, headers={**headers, "Accept-Ranges": "bytes"})


def send_bytes(request: Request, content: bytes, headers: Mapping[str, str]) -> Response:
    """A small file from memory, with single ranges (RFC 9110 §14)."""
    headers = {**headers, "Accept-Ranges": "bytes"}
    span = _requested(request, len(content), headers.get("ETag"))
    if span is None:
        return Response(content, headers=headers)
    start, end = span
    if not content and start == 0:
        # Browser clients probe with `bytes=0-0`; a 416 would read as "no such file".
        return Response(b"", 206, {**headers, "Content-Range": "bytes 0-0/0"})
    if start >= len(content) or start > end:
        return Response(b"", 416, {**headers, "Content-Range": f"bytes */{len(content)}"})
    headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
    return Response(content[start : end + 1], 206, headers)


def content_disposition(name: str) -> str:
    """`inline` under the file's own name (RFC 6266)."""
    ascii_name = name.encode("ascii", "replace").decode().replace('"', "").replace("\\", "")
    return f"inline; filename*=UTF-8''{quote(name, safe='')}; filename=\"{ascii_name}\";"


def _requested(request: Request, size: int, etag: str | None) -> tuple[int, int] | None:
    """First and last byte asked for, or None for the whole file."""
    match = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if_range = request.headers.get("if-range")
    if match is None or (if_range is not None and if_range != etag):
        return None
    first, last = match.groups()
    if not first and not last:
        return None
    if not first:
        length = int(last)
        return (max(0, size - length), size - 1) if length else (size, size)
    return int(first), min(int(last), size - 1) if last else size - 1
