"""A body that is read once and asked twice: the gate looks for a model's name, the handler for all.

Bytes first, so that a caller may send JSON under any label.
"""

from typing import Any

import msgspec
from starlette.requests import Request

from gatehouse.core.errors import Invalid
from gatehouse.http.bodies import read_body
from gatehouse.inference.errors import ValidationFailed

MAX_BODY_BYTES = 2 * 1024 * 1024


class BodyInvalid(Invalid):
    """The body is not what this route takes."""


async def body_of(request: Request) -> bytes:
    """The whole body; the second call gives the same again.

    Raises:
        TooLarge: It is over 2 MiB.
    """
    if not hasattr(request.state, "whole_body"):
        request.state.whole_body = await read_body(request, MAX_BODY_BYTES)
    body = request.state.whole_body
    assert isinstance(body, bytes)
    return body


def decode_json(data: bytes) -> Any:
    """Any JSON value.

    Raises:
        ValidationFailed: A number is too large for any computer.
        BodyInvalid: It is not JSON, or nested so deeply that nobody means it.
    """
    try:
        return msgspec.json.decode(data)
    except msgspec.ValidationError as error:
        raise ValidationFailed("a number in the body is out of range") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BodyInvalid(f"The body is not JSON: {error}.") from error
    except RecursionError:
        raise BodyInvalid("The body is nested too deeply.") from None


async def json_object_of(request: Request) -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        BodyInvalid: It is something else.
        TooLarge: It is over 2 MiB.
    """
    value = decode_json(await body_of(request))
    if not isinstance(value, dict):
        raise BodyInvalid("The body must be a JSON object.")
    return value
