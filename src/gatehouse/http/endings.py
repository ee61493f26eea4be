"""How a request ended, told to whoever asked for it when the last byte has been sent."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from starlette.convertors import CONVERTOR_TYPES
from starlette.requests import Request
from starlette.types import Scope

_KEY = "gatehouse.ending"
_NO_ROUTE = "(none)"
_PARAMETER = re.compile(r"\{(\w+)(?::(\w+))?\}")


@dataclass(slots=True)
class Ending:
    """One request's end.

    Attributes:
        route: The pattern that matched, as `readable_route` has it.
        status: 0 if no answer was begun.
        seconds: From the request's first byte to the answer's last.
    """

    route: str = _NO_ROUTE
    status: int = 0
    seconds: float = 0.0
    listeners: list[Callable[["Ending"], None]] = field(default_factory=list)


def expect_end(scope: Scope) -> Ending:
    """Begin to watch a request: its `Ending`, to be filled and then passed to its listeners."""
    ending = scope[_KEY] = Ending()
    return ending


def on_end(request: Request, listener: Callable[[Ending], None]) -> None:
    """Have `listener` called when the request has ended. It must be quick, and must not raise."""
    ending = request.scope.get(_KEY)
    if isinstance(ending, Ending):
        ending.listeners.append(listener)


def note_route(scope: Scope) -> None:
    """Remember which route matched: a copy of the scope knows it, the original does not."""
    ending, route = scope.get(_KEY), scope.get("route")
    if isinstance(ending, Ending) and route is not None:
        ending.route = readable_route(str(getattr(route, "path", _NO_ROUTE)))


@lru_cache(1024)
def readable_route(pattern: str) -> str:
    """A route's pattern as people write it: `/models/{id}/v1/models`.

    A convertor may have a text `shown`, for what stands there in most addresses. So the ways to
    spell one address are one route, in metrics too.
    """

    def shown(parameter: re.Match[str]) -> str:
        convertor = CONVERTOR_TYPES.get(parameter[2] or "")
        return str(getattr(convertor, "shown", f"{{{parameter[1]}}}"))

    return _PARAMETER.sub(shown, pattern).replace("{namespace}/{name}", "{id}")
