"""What a caller of `/models/{id}` means by a body, whatever its label says.

JSON comes labelled as a form (`curl -d`), or not at all; older clients send a bare text.
"""

from typing import Any

import msgspec
from starlette.requests import Request

from gatehouse.core.errors import Invalid
from gatehouse.http.bodies import read_body

MAX_BODY_BYTES = 2 * 1024 * 1024
_JSON_STARTS = b'{["'


class BodyInvalid(Invalid):
    """The body is not what this route takes."""


async def read_json_object(request: Request) -> dict[str, Any]:
    """A JSON object, and nothing else.

    Raises:
        BodyInvalid: It is something else.
        TooLarge: It is over 2 MiB.
    """
    value = _decode(await read_body(request, MAX_BODY_BYTES))
    if not isinstance(value, dict):
        raise BodyInvalid("The body must be a JSON object.")
    return value


async def read_inputs(request: Request) -> dict[str, Any]:
    """A JSON object with `inputs`, or with what chat or completion clients send instead.

    A JSON text or list, and a plain text, are the inputs themselves.

    Raises:
        BodyInvalid: There is nothing to run on.
        TooLarge: It is over 2 MiB.
    """
    data = await read_body(request, MAX_BODY_BYTES)
    stripped = data.strip()
    if not stripped:
        raise BodyInvalid("The body is empty: send a JSON object with `inputs`.")
    is_labelled = "json" in request.headers.get("content-type", "")
    if stripped[0] not in _JSON_STARTS and not is_labelled:
        return {"inputs": _text(data)}
    value = _decode(stripped)
    if isinstance(value, str | list):
        return {"inputs": value}
    if not isinstance(value, dict):
        raise BodyInvalid("The body must be a JSON object with `inputs`.")
    if "inputs" not in value and isinstance(value.get("text"), str):
        value["inputs"] = value.pop("text")
    if not value.keys() & {"inputs", "messages", "prompt"}:
        raise BodyInvalid("The body must have `inputs`.")
    return value


def _decode(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BodyInvalid(f"The body is not JSON: {error}.") from error


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BodyInvalid("The body is neither JSON nor UTF-8 text.") from error
