"""How deeply JSON may be nested where it goes on into templates, grammars and messages.

Each of them recurses in its own way; a body as deep as its reader allows would break one or other.
"""

from typing import Any

from gatehouse.inference.errors import ValidationFailed

MAX_NESTING = 64


def refuse_deep(value: Any, where: str) -> None:
    """Look through a value without recursion.

    Raises:
        ValidationFailed: It is nested too deeply.
    """
    level = [value]
    for _ in range(MAX_NESTING):
        level = [inner for outer in level for inner in _inner(outer)]
        if not level:
            return
    raise ValidationFailed(f"`{where}` is nested deeper than {MAX_NESTING}")


def _inner(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
