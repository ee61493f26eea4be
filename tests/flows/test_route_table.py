"""Every route asks the gate: one that yields bytes or changes things without it fails here."""

from pathlib import Path
from typing import Annotated

import pytest
from factories import Hub
from fastapi import Depends
from route_walk import (
    RouteUnguarded,
    build_vault,
    check_gates,
    check_strangers,
    routes_of,
    stale_exceptions,
    yielding_routes,
)
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.http.context import ServicesDependency
from gatehouse.http.gates import ChosenGate, PublicGate, RepoGate
from gatehouse.identity.actors import Actor
from gatehouse.identity.permissions import Permission
from gatehouse.repos.repositories import SettingsChange
from gatehouse.repos.repository import Gate, Repository

_REPO = "/planted/{namespace:name}/{name:name}"
_Known = Annotated[Repository, Depends(RepoGate(Permission.REPO_METADATA))]
_Reader = Annotated[Repository, Depends(RepoGate(Permission.REPO_CONTENT))]
_Chooser = Annotated[
    Actor, Depends(ChosenGate(Permission.INFERENCE_RUN, "the handler asks the gate itself"))
]
_Anybody = Annotated[Actor, Depends(PublicGate("it looks harmless"))]


def test_every_route_declares_the_gate_it_needs(hub: Hub) -> None:
    check_gates(hub.app)


def test_no_exception_outlives_its_route(hub: Hub) -> None:
    assert stale_exceptions(hub.app) == set()


def test_the_walk_sees_the_routes_of_included_routers(hub: Hub) -> None:
    paths = {route.path for route in routes_of(hub.app)}
    assert "/api/whoami-v2" in paths
    assert "/{prefix}{namespace}/{name}/resolve/{rest}" in paths


def test_no_route_yields_or_changes_anything_for_strangers(hub: Hub) -> None:
    check_strangers(build_vault(hub))


def test_the_walk_finds_the_secrets_where_the_owner_does(hub: Hub) -> None:
    assert yielding_routes(build_vault(hub)) >= {
        "GET /{prefix}{namespace}/{name}/resolve/{rest}",
        "GET /{prefix}{namespace}/{name}/raw/{rest}",
        "POST /{prefix}{namespace}/{name}/git-upload-pack",
    }


def test_a_planted_route_without_a_gate_is_noticed(own_hub: Hub) -> None:
    vault = build_vault(own_hub)

    @own_hub.app.get(_REPO)
    def leak(namespace: str, name: str) -> Response:
        return Response(vault.noise)

    with pytest.raises(RouteUnguarded, match="declares 0 gates"):
        check_gates(own_hub.app)
    with pytest.raises(RouteUnguarded, match="yields a secret to nobody"):
        check_strangers(vault, below="/planted")


def test_a_planted_route_with_a_gate_that_lets_everybody_by_is_noticed(own_hub: Hub) -> None:
    @own_hub.app.get(_REPO)
    def leak(namespace: str, name: str, _actor: _Anybody) -> Response:
        return Response()

    with pytest.raises(RouteUnguarded, match="use `RepoGate`"):
        check_gates(own_hub.app)


def test_a_planted_route_that_yields_bytes_behind_the_wrong_gate_is_noticed(own_hub: Hub) -> None:
    """The declaration looks right; only calling it shows that it is not."""

    @own_hub.app.get(_REPO + "/peek")
    def peek(services: ServicesDependency, repository: _Known) -> Response:
        commit_oid = services.files.commit_oid(repository, "main")
        file = services.files.file(repository, commit_oid, "notes.txt")
        return Response(services.files.read(repository, file))

    check_gates(own_hub.app)
    with pytest.raises(RouteUnguarded, match="yields a secret to nobody"):
        check_strangers(build_vault(own_hub), below="/planted")


def test_a_planted_route_that_changes_without_a_scope_is_noticed(own_hub: Hub) -> None:
    @own_hub.app.post(_REPO + "/open")
    def open_gate(services: ServicesDependency, repository: _Known, actor: _Anybody) -> Response:
        return Response()

    with pytest.raises(RouteUnguarded, match="declares 2 gates"):
        check_gates(own_hub.app)


def test_a_planted_route_that_changes_behind_a_reading_gate_is_noticed(own_hub: Hub) -> None:
    vault = build_vault(own_hub)

    @own_hub.app.post(_REPO + "/open")
    def open_gate(services: ServicesDependency, repository: _Known) -> Response:
        change = SettingsChange(gate=Gate.OPEN)
        services.repositories.change_settings(vault.owner.actor, repository, change)
        return Response()

    with pytest.raises(RouteUnguarded, match="without a credential that writes"):
        check_gates(own_hub.app)
    with pytest.raises(RouteUnguarded, match=r"lets nobody change .*repositories"):
        check_strangers(vault, below="/planted")


def test_a_planted_route_that_changes_on_get_is_noticed(own_hub: Hub) -> None:
    """A reading gate and a safe method: the declarations look right."""
    vault = build_vault(own_hub)

    @own_hub.app.get(_REPO + "/open")
    def delete(services: ServicesDependency, repository: _Known) -> Response:
        services.repositories.delete(vault.owner.actor, repository)
        return Response()

    check_gates(own_hub.app)
    with pytest.raises(RouteUnguarded, match="lets nobody change"):
        check_strangers(vault, below="/planted")


def test_a_planted_route_that_changes_for_a_read_token_is_noticed(own_hub: Hub) -> None:
    """Strangers are refused; the owner's read token is not, and should be."""
    vault = build_vault(own_hub)

    @own_hub.app.get(_REPO + "/open")
    def open_gate(services: ServicesDependency, repository: _Reader) -> Response:
        services.repositories.change_settings(
            vault.owner.actor, repository, SettingsChange(gate=Gate.OPEN)
        )
        return Response()

    with pytest.raises(RouteUnguarded, match="lets the owner with a read token change"):
        check_strangers(vault, below="/planted")


def test_a_planted_route_that_runs_any_model_is_noticed(own_hub: Hub) -> None:
    """It names the model in its body, and declares that the handler asks the gate."""

    @own_hub.app.post("/planted")
    async def run(request: Request, _actor: _Chooser) -> Response:
        return Response(b"Asked for " + await request.body())

    check_gates(own_hub.app)
    with pytest.raises(RouteUnguarded, match="runs a model for nobody"):
        check_strangers(build_vault(own_hub), below="/planted")


def test_routes_of_the_default_model_are_gated_too(tmp_path: Path, migrated_database: Path) -> None:
    for name in ("gated", "private"):
        hub = Hub(tmp_path / name, migrated_database, default_model=f"olivia/{name}")
        try:
            vault = build_vault(hub)
            for below in ("/generate", "/tokenize", "/chat_tokenize", "/invocations", "/info"):
                check_strangers(vault, below)
        finally:
            hub.close()


def test_an_unlisted_mount_is_noticed(own_hub: Hub) -> None:
    async def application(scope: object, receive: object, send: object) -> None:
        return

    own_hub.app.mount("/files", application)
    with pytest.raises(RouteUnguarded, match="not listed in `UNGATED`"):
        check_gates(own_hub.app)


def test_a_planted_route_that_takes_any_body_is_noticed(own_hub: Hub) -> None:
    @own_hub.app.post("/planted")
    def swallow(_actor: _Anybody, body: dict[str, str]) -> Response:
        return Response()

    with pytest.raises(RouteUnguarded, match="takes a body of any size"):
        check_gates(own_hub.app)
