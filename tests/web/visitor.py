"""A person at the pages of an in-process hub: follows no redirect, fills in the hidden fields."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser

from factories import Hub, Person

from gatehouse.http.actors import SESSION_COOKIE
from gatehouse.identity.sessions import csrf_token

Attributes = dict[str, str | None]


@dataclass
class Page:
    """One answer, taken apart.

    Attributes:
        elements: Every tag with its attributes, in order.
        text: What a reader sees, with single spaces.
    """

    status: int
    headers: Mapping[str, str]
    html: str
    elements: list[tuple[str, Attributes]] = field(default_factory=list)
    text: str = ""

    @property
    def location(self) -> str:
        return self.headers["location"]

    def all(self, tag: str, **attributes: str) -> list[Attributes]:
        wanted = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
        return [
            found
            for name, found in self.elements
            if name == tag and all(found.get(key) == value for key, value in wanted.items())
        ]

    def links(self) -> set[str]:
        return {found["href"] or "" for found in self.all("a") if "href" in found}


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, Attributes]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


class Visitor:
    """Nobody, or a signed-in person."""

    def __init__(self, hub: Hub, person: Person | None = None) -> None:
        self._hub = hub
        self.session = hub.services.sessions.start(person.user) if person else None

    def get(self, path: str, **headers: str) -> Page:
        answer = self._hub.client.get(path, headers=self._headers(headers))
        return self._page(answer.status_code, answer.headers, answer.text)

    def post(self, path: str, fields: dict[str, str] | None = None, **headers: str) -> Page:
        """Send a form as the page would; a `csrf_token` among `fields` replaces the right one."""
        token = {"csrf_token": csrf_token(self.session) if self.session else ""}
        answer = self._hub.client.post(
            path, data={**token, **(fields or {})}, headers=self._headers(headers)
        )
        return self._page(answer.status_code, answer.headers, answer.text)

    def _headers(self, given: dict[str, str]) -> dict[str, str]:
        headers = {"Accept": "text/html", "Cookie": ""}
        if self.session:
            headers["Cookie"] = f"{SESSION_COOKIE}={self.session}"
        headers.update({key.replace("_", "-"): value for key, value in given.items()})
        return {key: value for key, value in headers.items() if value}

    def _page(self, status: int, headers: Mapping[str, str], html: str) -> Page:
        self._hub.client.cookies.clear()
        reader = _Reader()
        reader.feed(html)
        text = re.sub(r"\s+", " ", " ".join(reader.texts))
        return Page(status, headers, html, reader.elements, text)
