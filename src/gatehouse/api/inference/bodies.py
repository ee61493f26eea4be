"""What a caller of `/models/{id}` means by a body, whatever its label says.

JSON comes labelled as a form (`curl -d`), or not at all; older clients send a bare text, or the
task's own keys at the root.
"""

from typing import Any

from starlette.requests import Request

from gatehouse.http.json_bodies import BodyInvalid, body_of, decode_json, json_object_of

_JSON_STARTS = b'{["'
# What other tasks' clients put beside `inputs`, or in its place.
_LIFTED = (
    ("table",),
    ("image", "question"),
    ("data",),
    ("source_sentence", "sentences"),
    ("question", "context"),
)


async def read_json_object(request: Request) -> dict[str, Any]:
    """A JSON object, and nothing else.

    Raises:
        BodyInvalid: It is something else.
        TooLarge: It is over 2 MiB.
    """
    return await json_object_of(request)


async def read_inputs(request: Request) -> dict[str, Any]:
    """A JSON object with `inputs`, or with what chat or completion clients send instead.

    A JSON text or list, and a plain text, are the inputs themselves.

    Raises:
        BodyInvalid: There is nothing to run on.
        TooLarge: It is over 2 MiB.
    """
    data = await body_of(request)
    stripped = data.strip()
    if not stripped:
        raise BodyInvalid("The body is empty: send a JSON object with `inputs`.")
    is_labelled = "json" in request.headers.get("content-type", "")
    if stripped[0] not in _JSON_STARTS and not is_labelled:
        return {"inputs": _text(data)}
    value = decode_json(stripped)
    if isinstance(value, str | list):
        return {"inputs": value}
    if not isinstance(value, dict):
        raise BodyInvalid("The body must be a JSON object with `inputs`.")
    value = _lifted(value)
    if not value.keys() & {"inputs", "messages", "prompt"}:
        raise BodyInvalid("The body must have `inputs`.")
    return value


def _lifted(body: dict[str, Any]) -> dict[str, Any]:
    """The same body, with what stands at the root instead of in `inputs` put there."""
    if body.get("inputs") is not None:
        return body
    body = {key: value for key, value in body.items() if key != "inputs"}
    if isinstance(body.get("text"), str):
        return {**body, "inputs": body["text"]}
    for keys in _LIFTED:
        if all(body.get(key) is not None for key in keys):
            return {**body, "inputs": {key: body[key] for key in keys}}
    return body


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BodyInvalid("The body is neither JSON nor UTF-8 text.") from error
