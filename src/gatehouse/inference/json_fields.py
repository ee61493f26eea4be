"""Typed reading of a JSON object's keys: null is absent, a wrong type is the caller's error."""

import math
from collections.abc import Mapping
from typing import Any

from gatehouse.inference.errors import ValidationFailed

# What the wire's unsigned types hold; larger numbers cannot be meant.
_LARGEST_INTEGER = 2**32 - 1
_LARGEST_TOKEN_ID = 2**31 - 1


class Fields:
    """A JSON object. Each reader raises `ValidationFailed`, naming the key."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def raw(self, name: str) -> Any:
        return self._values.get(name)

    def integer(
        self, name: str, smallest: int | None = None, largest: int = _LARGEST_INTEGER
    ) -> int | None:
        """A whole number. Below `smallest`, if that is given, and over `largest` it is refused."""
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValidationFailed(f"`{name}` must be an integer")
        if value > largest:
            raise ValidationFailed(f"`{name}` must be <= {largest}. Given: {value}")
        if smallest is not None and value < smallest:
            raise ValidationFailed(f"`{name}` must be >= {smallest}. Given: {value}")
        return value

    def number(self, name: str) -> float | None:
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValidationFailed(f"`{name}` must be a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise ValidationFailed(f"`{name}` must be a finite number")
        return number

    def boolean(self, name: str, *, default: bool = False) -> bool:
        value = self._values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise ValidationFailed(f"`{name}` must be a boolean")
        return value

    def strings(self, name: str) -> list[str]:
        """A list of texts; one text alone is a list of one."""
        value = self._values.get(name)
        if value is None:
            return []
        if isinstance(value, str):
            return [value]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ValidationFailed(f"`{name}` must be a list of strings")
        return value


def is_token_ids(items: list[Any]) -> bool:
    """Whether a list is one prompt as token ids, and not several prompts."""
    return bool(items) and all(
        type(item) is int and 0 <= item <= _LARGEST_TOKEN_ID for item in items
    )
