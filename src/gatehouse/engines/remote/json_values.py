"""Reads values out of JSON that a stranger wrote; what is missing or of another type is None."""

import json
import math
from typing import Any

from gatehouse.engines.remote.base import UpstreamMalformed

_MAX_COUNT = 2**40


def read_object(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`.

    Raises:
        UpstreamMalformed: There is none.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise UpstreamMalformed("an event that is no JSON") from None
    if not isinstance(value, dict):
        raise UpstreamMalformed("an event that is no JSON object")
    return value


def inner_object(value: Any) -> dict[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def inner_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def text_or_none(value: Any) -> str | None:
    """A text that can be encoded again: JSON may hold half a surrogate pair."""
    if not isinstance(value, str):
        return None
    return value.encode("utf-8", "replace").decode()


def count_or_none(value: Any) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_COUNT
    return value if is_count else None


def number_or_none(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
