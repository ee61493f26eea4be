"""Routes as metrics and log lines name them: few, and readable."""

import re
from collections.abc import Iterable
from typing import Any

import pytest
from factories import Hub

from gatehouse.http.endings import readable_route


@pytest.mark.parametrize(
    ("pattern", "shown"),
    [
        ("/v1/models/{rest:path}", "/v1/models/{rest}"),
        ("/api/{kind:kind}/{namespace:name}/{name:name}/settings", "/api/{kind}/{id}/settings"),
        ("/users/{name}", "/users/{name}"),
        ("(none)", "(none)"),
    ],
)
def test_patterns_are_read_as_people_write_them(pattern: str, shown: str) -> None:
    assert readable_route(pattern) == shown


def _patterns(routes: Iterable[Any]) -> Iterable[str]:
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from _patterns(inner.routes)
        elif path := getattr(route, "path", None):
            yield path


def test_no_route_of_the_hub_shows_its_convertors(hub: Hub) -> None:
    shown = {readable_route(pattern) for pattern in _patterns(hub.app.routes)}
    assert {"/models/{id}", "/models/{id}/v1/chat/completions", "/v1/chat/completions"} <= shown
    assert not [route for route in shown if re.search(r":|\{(?:proxy|slash|end)\}", route)]
