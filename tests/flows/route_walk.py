"""Walks the route table: which routes declare which gate, and what strangers get from each.

`check_gates` reads declarations; `check_strangers` calls every route. A route passes the first by
naming the right gate, and the second by behaving.
"""

import asyncio
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import httpx
from factories import Hub, Person, add_file, ndjson, sha256_of
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts

from gatehouse.http.bounded_route import BoundedRoute
from gatehouse.http.gates import (
    AccountGate,
    CapabilityGate,
    ChosenGate,
    PublicGate,
    RepoGate,
    RouteGate,
)
from gatehouse.http.model_gates import NamedModelGate
from gatehouse.identity.permissions import Permission
from gatehouse.identity.sessions import csrf_token
from gatehouse.repos.repository import Gate, Repository
from gatehouse.web.page_route import PageRoute

# What the walk asks for by name; a fetch gets the rest too.
_FILES = ("notes.txt", "weights.safetensors")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_WRITING = frozenset(
    {
        Permission.REPO_WRITE,
        Permission.REPO_CREATE,
        Permission.REPO_ADMIN,
        Permission.GATE_ASK,
        Permission.ACCOUNT_WRITE,
    }
)
# What a stranger may be told who asks for a model of the vault, or for something not built.
_REFUSED = frozenset({401, 403, 404, 501})
# Parts of a model's address that only say how it is written.
_SPELLINGS = {
    "_ProxyConvertor": "",
    "_SlashConvertor": "/",
    "_VersionConvertor": "v1/",
    "_RevisionConvertor": "@main",
    "_EndConvertor": "",
}
# Served without a gate: they hold nothing of anybody's.
UNGATED = {
    "/openapi.json": "describes the API, the same for everybody",
    "/static": "the style sheet and scripts of the pages",
}
# They take a body but change nothing that a token with the role `read` may not change.
NOT_WRITING = {
    "POST /api/validate-yaml": "checks a text and keeps nothing",
    "POST /api/{kind}/{namespace}/{name}/paths-info/{rest}": "a question too long for an address",
    "POST /v1/telemetry": "a sink",
    "POST /xet/{scope}/v1/telemetry": "a sink",
    "POST /{prefix}{namespace}/{name}/info/lfs/objects/batch": (
        "downloads by those who read; the handler asks for `repo:write` before an upload"
    ),
    "POST /{prefix}{namespace}/{name}/git-upload-pack": "a fetch",
    "POST /oauth/device": "starts a sign-in that a signed-in person has to approve",
    "POST /oauth/token": "its device code or refresh token is the credential",
    "POST /login": "its password is the credential",
    "POST /join": "makes an account for whoever sends it",
    "POST /logout": "ends the session that it came with",
}


# What a route may change for the caller alone: tables of rows that concern nobody else.
OWN_BUSINESS = {
    "/oauth/device": {"device_grants"},
    "/logout": {"sessions"},
    "/{prefix}{namespace}/{name}/ask-access": {"access_requests", "audit_entries"},
}


class RouteUnguarded(AssertionError):
    """A route does not guard what it should."""


@dataclass(frozen=True)
class Route:
    """One path of the application. `gates` are those its dependencies name, however deep."""

    path: str
    methods: frozenset[str]
    gates: tuple[RouteGate, ...]
    parameters: dict[str, str]
    is_api_route: bool
    is_bounded: bool

    @property
    def names_repository(self) -> bool:
        return {"namespace", "name"} <= self.parameters.keys()


def routes_of(app: FastAPI) -> list[Route]:
    return [_route(context) for context in iter_route_contexts(app.routes)]


def _route(context: RouteContext) -> Route:
    is_api_route = isinstance(context.original_route, APIRoute)
    convertors = getattr(context, "param_convertors", {})
    return Route(
        path=context.path_format if is_api_route and context.path_format else context.path or "",
        methods=frozenset(context.methods or ()),
        gates=tuple(_gates(context.dependant)) if is_api_route else (),
        parameters={name: type(item).__name__ for name, item in convertors.items()},
        is_api_route=is_api_route,
        is_bounded=not is_api_route
        or context.body_field is None
        or isinstance(context.original_route, BoundedRoute | PageRoute),
    )


def _gates(dependant: Dependant) -> Iterator[RouteGate]:
    for dependency in dependant.dependencies:
        if isinstance(dependency.call, RouteGate):
            yield dependency.call
        yield from _gates(dependency)


def check_gates(app: FastAPI) -> None:
    """Fail for a route that declares no gate, two gates, or one that is too weak for it."""
    routes = routes_of(app)
    problems = [problem for route in routes for problem in _problems(route)]
    if problems:
        raise RouteUnguarded("\n".join(problems))


def _problems(route: Route) -> Iterator[str]:
    where = f"{','.join(sorted(route.methods))} {route.path}"
    if route.path in UNGATED:
        return
    if not route.is_api_route:
        yield f"{where}: cannot declare a gate, and is not listed in `UNGATED`"
        return
    if len(route.gates) != 1:
        yield f"{where}: declares {len(route.gates)} gates; it must declare exactly one"
        return
    gate = route.gates[0]
    if route.names_repository and not isinstance(gate, RepoGate):
        yield f"{where}: names a repository and declares {gate}; use `RepoGate`"
    if not route.is_bounded:
        yield f"{where}: takes a body of any size into memory; use `BoundedRoute`"
    if isinstance(gate, NamedModelGate) and route.names_repository:
        yield f"{where}: names a repository in its path and looks for it elsewhere"
    if isinstance(gate, PublicGate | ChosenGate) and not gate.reason:
        yield f"{where}: does not say why {type(gate).__name__} is right"
    for method in sorted(route.methods - _SAFE_METHODS):
        is_allowed = _is_writing(gate) or _only_runs_a_model(gate)
        if f"{method} {route.path}" not in NOT_WRITING and not is_allowed:
            yield f"{method} {route.path}: may change things without a credential that writes"


def _is_writing(gate: RouteGate) -> bool:
    if isinstance(gate, RepoGate | AccountGate | CapabilityGate | ChosenGate):
        return gate.permission in _WRITING
    return False


def _only_runs_a_model(gate: RouteGate) -> bool:
    """Running a model changes nothing, and those who read may do it."""
    if not isinstance(gate, RepoGate | ChosenGate | NamedModelGate):
        return False
    return gate.permission is Permission.INFERENCE_RUN


def stale_exceptions(app: FastAPI) -> set[str]:
    """Exceptions for routes that are not there, or that do not need one."""
    needed = {
        f"{method} {route.path}"
        for route in routes_of(app)
        for method in route.methods
        if len(route.gates) == 1 and not _is_writing(route.gates[0])
    }
    return set(NOT_WRITING) - needed


@dataclass
class Vault:
    """Repositories whose files hold secrets, their owner, and people with no right to them."""

    hub: Hub
    owner: Person
    stranger: Person
    text: bytes
    # Random, so that compression stores it as it is and it can be found inside a pack.
    noise: bytes
    repositories: list[Repository] = field(default_factory=list)

    def leaks(self, data: bytes) -> bool:
        return self.text in data or self.noise[1000:1040] in data


def build_vault(hub: Hub) -> Vault:
    text = f"secret-{secrets.token_hex(16)}".encode()
    noise = secrets.token_bytes(4096)
    vault = Vault(hub, hub.make_user("olivia"), hub.make_user("mallory"), text, noise)
    for name, private in (("gated", False), ("private", True)):
        vault.repositories.append(
            hub.make_repo(
                vault.owner,
                name,
                private=private,
                gate=Gate.MANUAL,
                files={"notes.txt": text, "noise.dat": noise, "README.md": b"# A vault\n"},
                large_files={"weights.safetensors": text + noise},
            )
        )
    return vault


def check_strangers(vault: Vault, below: str = "/") -> None:
    """Call every route whose path starts with `below` as everybody who has no right to.

    Raises:
        RouteUnguarded: One yields a secret, or changes what is not the caller's.
    """
    routes = [route for route in routes_of(vault.hub.app) if route.path.startswith(below)]
    session = vault.hub.make_session(vault.stranger.user)
    people = {
        "nobody": {},
        "a stranger with a read token": vault.stranger.read,
        "a stranger with a write token": vault.stranger.write,
        "a stranger with a session": {"Cookie": session},
    }
    form_token = csrf_token(session.partition("=")[2])
    for who, headers in people.items():
        _call_all(vault, routes, who, headers, may_read=False, form_token=form_token)
    # The owner may read all of it, but change none of it with a read token.
    who = "the owner with a read token"
    _call_all(vault, routes, who, vault.owner.read, may_read=True)
    for repository in vault.repositories:
        access, stranger = vault.hub.services.access, vault.stranger.actor
        if access.allows(stranger, repository, Permission.REPO_CONTENT):
            raise RouteUnguarded(f"the stranger was let into {repository.repo_id}")


def _check_answer(call: "_Call", answer: "_Answer", vault: Vault, who: str) -> None:
    """Fail if somebody without a right to it got a secret, or an answer of the vault's models."""
    if vault.leaks(answer.data):
        raise RouteUnguarded(f"{call} yields a secret to {who}")
    if call.runs_model and answer.status not in _REFUSED:
        raise RouteUnguarded(f"{call} runs a model for {who}: {answer.status}")


def yielding_routes(vault: Vault) -> set[str]:
    """The routes from which the owner gets a secret: shows that the walk would notice one."""
    found = set()
    for route in routes_of(vault.hub.app):
        calls = [call for call in _calls(route, vault) if call.is_harmless]
        answers = _send(vault.hub, calls, vault.owner.write)
        found |= {
            f"{call.method} {route.path}"
            for call, answer in zip(calls, answers, strict=True)
            if vault.leaks(answer.data)
        }
    return found


def _call_all(
    vault: Vault,
    routes: list[Route],
    who: str,
    headers: dict[str, str],
    *,
    may_read: bool,
    form_token: str = "",
) -> None:
    before, writes = _state(vault), vault.hub.writes()
    for route in routes:
        calls = list(_calls(route, vault, form_token))
        for call, answer in zip(calls, _send(vault.hub, calls, headers), strict=True):
            if not may_read:
                _check_answer(call, answer, vault, who)
        if vault.hub.writes() == writes:
            continue
        writes, after = vault.hub.writes(), _state(vault)
        changed = _changed(before, after) - OWN_BUSINESS.get(route.path, set())
        if changed:
            raise RouteUnguarded(f"{route.path} lets {who} change {sorted(changed)}")
        before = after
    if _state(vault) != before:
        raise RouteUnguarded(f"a route lets {who} move a branch and keeps no record of it")


def _state(vault: Vault) -> dict[str, list[str]]:
    """All that a route might change; what callers used is written down later, by a thread."""
    return {place: rows for place, rows in vault.hub.state().items() if place != "usage"}


def _changed(before: dict[str, list[str]], after: dict[str, list[str]]) -> set[str]:
    places = before.keys() | after.keys()
    return {place for place in places if before.get(place) != after.get(place)}


@dataclass(frozen=True)
class _Call:
    method: str
    url: str
    content: bytes = field(repr=False, default=b"")
    media_type: str = ""
    runs_model: bool = False

    @property
    def is_harmless(self) -> bool:
        return self.method in _SAFE_METHODS or self.url.partition("?")[0].endswith(
            ("/git-upload-pack", "/objects/batch")
        )


@dataclass(frozen=True)
class _Answer:
    status: int
    data: bytes


def _send(hub: Hub, calls: list[_Call], headers: dict[str, str]) -> list[_Answer]:
    """Everything that comes back from each, headers and body; they are sent all at once."""
    transport = httpx.ASGITransport(hub.app)

    async def send(client: httpx.AsyncClient, call: _Call) -> _Answer:
        extra = {"Content-Type": call.media_type} if call.media_type else {}
        response = await client.request(
            call.method, call.url, content=call.content, headers={**headers, **extra}
        )
        assert response.status_code != 500, f"{call} answered 500: {response.text}"
        head = "\n".join(f"{name}: {value}" for name, value in response.headers.items())
        return _Answer(response.status_code, head.encode() + b"\n\n" + response.content)

    async def send_all() -> list[_Answer]:
        async with httpx.AsyncClient(transport=transport, base_url="http://hub.test") as client:
            return await asyncio.gather(*(send(client, call) for call in calls))

    # The loop that the client keeps: a loop for each route would start its threads anew.
    assert hub.client.portal is not None
    return hub.client.portal.call(send_all)


def _calls(route: Route, vault: Vault, form_token: str = "") -> Iterator[_Call]:
    """One call for each method, repository, file and kind of body that make a difference."""
    runs_model = any(_only_runs_a_model(gate) for gate in route.gates)
    names_one = route.names_repository or runs_model
    for repository in vault.repositories if names_one else vault.repositories[:1]:
        for path in _FILES if "rest" in route.parameters else _FILES[:1]:
            url = _fill(route, vault, repository, path)
            for method in sorted(route.methods):
                if method in _SAFE_METHODS:
                    query = "service=git-upload-pack&blobs=true&expand=true"
                    yield _Call(method, f"{url}?{query}", runs_model=runs_model)
                    continue
                for content, media_type in _bodies(vault, repository, url, form_token):
                    # A form does not name the model, so it is refused for what it is.
                    runs = runs_model and media_type == "application/json"
                    yield _Call(method, url, content, media_type, runs)


def _fill(route: Route, vault: Vault, repository: Repository, path: str) -> str:
    values = {
        "kind": repository.kind.plural,
        "prefix": repository.kind.url_prefix,
        "namespace": repository.repo_id.namespace,
        "name": repository.repo_id.name,
        "revision": "main",
        "rest": f"main/{path}",
        "oid": sha256_of(vault.text + vault.noise),
        "status": "pending",
        "scope": "generation",
        "request_id": "1",
    }
    if any(isinstance(gate, NamedModelGate) for gate in route.gates):
        values["rest"] = str(repository.repo_id)
    if "prefix" in route.parameters and "namespace" not in route.parameters:
        values["prefix"] = "default"
    filled = {
        name: _SPELLINGS.get(convertor, values.get(name, "1"))
        for name, convertor in route.parameters.items()
    }
    return route.path.format(**filled)


def _bodies(
    vault: Vault, repository: Repository, url: str, form_token: str
) -> Iterator[tuple[bytes, str]]:
    """Bodies that would do harm at any route: they name the vault under every key there is."""
    keys = _harmful_keys(vault, repository)
    yield json.dumps(keys).encode(), "application/json"
    if url.endswith(("/git-upload-pack", "/git-receive-pack")):
        yield _want_all(vault, repository), f"application/x-{url.rpartition('/')[2]}-request"
        return
    if "/commit/" in url:
        header = ("header", {"summary": "planted"})
        yield ndjson(header, add_file("planted.txt", b"planted")), "application/x-ndjson"
    fields = {name: value for name, value in keys.items() if isinstance(value, str)}
    yield (
        urlencode({**fields, "csrf_token": form_token}).encode(),
        "application/x-www-form-urlencoded",
    )


def _harmful_keys(vault: Vault, repository: Repository) -> dict[str, Any]:
    oid = sha256_of(vault.text + vault.noise)
    size = len(vault.text + vault.noise)
    return {
        # Which repository, in the ways of create, delete and move.
        "name": repository.repo_id.name,
        "organization": repository.repo_id.namespace,
        "namespace": repository.repo_id.namespace,
        "owner": repository.repo_id.namespace,
        "type": repository.kind.value,
        "fromRepo": str(repository.repo_id),
        "toRepo": f"{vault.stranger.name}/stolen",
        # Settings and access.
        "visibility": "public",
        "private": False,
        "gated": False,
        "gate": "open",
        "user": vault.stranger.name,
        "status": "accepted",
        "decision": "accepted",
        "confirm": str(repository.repo_id),
        # Uploads and downloads.
        "files": [{"path": "planted.txt", "size": 7, "sample": ""}],
        "paths": list(_FILES),
        "operation": "download",
        "objects": [{"oid": oid, "size": size}],
        "oid": oid,
        "size": size,
        "content": "---\nlicense: mit\n---\n",
        "model": str(repository.repo_id),
        "prompt": "Once upon a time",
        "messages": [{"role": "user", "content": "Once upon a time"}],
        "inputs": "Once upon a time",
        "parameters": {"max_new_tokens": 4},
    }


def _want_all(vault: Vault, repository: Repository) -> bytes:
    """A fetch of the whole branch, in git's protocol version 0."""
    head = vault.hub.head(repository)
    want = f"want {head} no-progress\n"
    return f"{len(want) + 4:04x}{want}0000".encode() + b"0009done\n"
