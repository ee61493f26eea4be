"""The body of an access request, whether a browser's form or a program's JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from gatehouse.core.errors import Invalid
from gatehouse.http.bodies import read_body
from gatehouse.web.page_route import MAX_FORM_BYTES

_FIELD_PREFIX = "field:"
_FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")


@dataclass(frozen=True, slots=True)
class SentAnswers:
    """What somebody sent to the gate.

    Attributes:
        answers: By the field's name; not yet checked.
        wants_page: Whether a page is to be shown afterwards.
    """

    answers: Mapping[str, object]
    csrf_token: str
    is_json: bool
    wants_page: bool


async def sent_answers(request: Request) -> SentAnswers:
    """Read the body.

    Raises:
        Invalid: JSON that is not an object, or of a type that is neither form nor JSON.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    wants_page = "text/html" in request.headers.get("accept", "")
    if kind in _FORM_TYPES:
        async with request.form(max_files=0) as form:
            texts = {key: value for key, value in form.items() if isinstance(value, str)}
        token = texts.pop("csrf_token", "")
        answers = {key.removeprefix(_FIELD_PREFIX): value for key, value in texts.items()}
        return SentAnswers(answers, token, is_json=False, wants_page=wants_page)
    body = await read_body(request, MAX_FORM_BYTES)
    return SentAnswers(_json_answers(kind, body), "", is_json=True, wants_page=wants_page)


GateAnswers = Annotated[SentAnswers, Depends(sent_answers)]


def _json_answers(kind: str, body: bytes) -> Mapping[str, object]:
    if not body:
        return {}
    if kind != "application/json":
        raise Invalid("Send the answers as a form or as `application/json`.")
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        raise Invalid("The body is not JSON.") from None
    fields = parsed.get("fields", parsed) if isinstance(parsed, dict) else None
    if not isinstance(fields, dict):
        raise Invalid("The body must be a JSON object of answers by field name.")
    return fields
