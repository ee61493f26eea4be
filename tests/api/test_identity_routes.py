"""Whoami and the OAuth device flow over HTTP, in process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from gatehouse.api import oauth
from gatehouse.api.hub import identity
from gatehouse.core.clock import FakeClock
from gatehouse.core.settings import Settings
from gatehouse.db.engine import Database
from gatehouse.http import errors
from gatehouse.http.context import Services
from gatehouse.identity.actors import OrganizationRole, Plan, User
from gatehouse.identity.permissions import TokenRole
from gatehouse.migrations.upgrade import upgrade
from gatehouse.observability.audit import OPERATOR
from gatehouse.server.services import build_services

_CLIENT = "a-public-client"
_DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def services(tmp_path: Path, clock: FakeClock) -> Iterator[Services]:
    settings = Settings(data_dir=tmp_path)
    database = Database(settings.resolved_database_url())
    upgrade(database)
    yield build_services(settings, database, clock)
    database.dispose()


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    app = FastAPI()
    app.state.services = services
    app.include_router(identity.router)
    app.include_router(oauth.router)
    errors.install(app, lambda _, status, message: PlainTextResponse(message, status))
    with TestClient(app, base_url="http://hub.test:8080") as client:
        yield client


@pytest.fixture
def alice(services: Services) -> User:
    return services.users.create("alice", "alice@example.com", "correct horse", "Alice A.")


def _bearer(value: str) -> dict[str, Any]:
    return {"Authorization": f"Bearer {value}"}


def _start(client: TestClient) -> dict[str, Any]:
    answer = client.post("/oauth/device", data={"client_id": _CLIENT})
    assert answer.status_code == 200
    return dict(answer.json())


def _poll(client: TestClient, device_code: str) -> dict[str, Any]:
    form = {"grant_type": _DEVICE_CODE, "device_code": device_code, "client_id": _CLIENT}
    answer = client.post("/oauth/token", data=form)
    assert answer.status_code == (200 if "access_token" in answer.json() else 400)
    assert answer.headers["cache-control"] == "no-store"
    return dict(answer.json())


def test_whoami_has_what_clients_read(client: TestClient, services: Services, alice: User) -> None:
    services.organizations.create("acme", "Acme Corp.", alice)
    services.users.set_plan(alice.id, Plan.PRO, by=OPERATOR)
    new = services.tokens.create(alice.id, "laptop", TokenRole.WRITE)
    answer = client.get("/api/whoami-v2", headers=_bearer(new.value))
    assert answer.json() == {
        "type": "user",
        "id": str(alice.id),
        "name": "alice",
        "fullname": "Alice A.",
        "email": "alice@example.com",
        "emailVerified": False,
        "canPay": False,
        "periodEnd": None,
        "isPro": True,
        "avatarUrl": "http://hub.test:8080/static/mark.svg",
        "orgs": [
            {
                "type": "org",
                "id": answer.json()["orgs"][0]["id"],
                "name": "acme",
                "fullname": "Acme Corp.",
                "email": None,
                "canPay": False,
                "periodEnd": None,
                "isEnterprise": False,
                "avatarUrl": "http://hub.test:8080/static/mark.svg",
                "roleInOrg": OrganizationRole.ADMIN,
            }
        ],
        "auth": {
            "type": "access_token",
            "accessToken": {
                "displayName": "laptop",
                "role": "write",
                "createdAt": "2026-01-01T00:00:00.000Z",
            },
        },
    }


def test_whoami_of_a_bad_token_has_the_exact_header(
    client: TestClient, services: Services, alice: User
) -> None:
    new = services.tokens.create(alice.id, "laptop", TokenRole.READ)
    services.tokens.refresh(alice.id, new.token.id)
    for value in (new.value, "hf_nonsense", "x"):
        answer = client.get("/api/whoami-v2", headers=_bearer(value))
        assert answer.status_code == 401
        message = "Invalid credentials in Authorization header"
        assert answer.headers["x-error-message"] == message
        assert answer.json() == {"error": message}
        assert "x-error-code" not in answer.headers


def test_whoami_of_nobody_is_401(client: TestClient) -> None:
    assert client.get("/api/whoami-v2").status_code == 401


def test_the_small_talk_of_clients_is_answered(client: TestClient) -> None:
    assert client.get("/api/agent-harnesses").json() == {"standardEnvVars": [], "harnesses": {}}
    answer = client.head("/api/telemetry/some/topic/here")
    assert (answer.status_code, answer.content) == (204, b"")


def test_a_device_signs_in_and_refreshes(
    client: TestClient, services: Services, clock: FakeClock, alice: User
) -> None:
    started = _start(client)
    assert started["verification_uri"] == "http://hub.test:8080/device"
    complete = f"http://hub.test:8080/device?user_code={started['user_code']}"
    assert started["verification_uri_complete"] == complete
    assert (started["interval"], started["expires_in"]) == (5, 900)
    assert _poll(client, started["device_code"])["error"] == "authorization_pending"
    assert _poll(client, started["device_code"])["error"] == "slow_down"
    services.device_flow.approve(started["user_code"], alice)
    issued = _poll(client, started["device_code"])
    assert (issued["token_type"], issued["expires_in"]) == ("bearer", 30 * 24 * 3600)
    who = client.get("/api/whoami-v2", headers=_bearer(issued["access_token"])).json()
    assert who["name"] == "alice"
    assert who["auth"]["accessToken"]["role"] == "write"
    assert "displayName" not in who["auth"]["accessToken"]
    assert who["auth"]["expiresAt"] == "2026-01-31T00:00:00.000Z"
    clock.advance(29.5 * 24 * 3600)
    form = {"grant_type": "refresh_token", "client_id": _CLIENT}
    form["refresh_token"] = issued["refresh_token"]
    renewed = client.post("/oauth/token", data=form).json()
    answer = client.get("/api/whoami-v2", headers=_bearer(renewed["access_token"]))
    assert answer.status_code == 200
    again = client.post("/oauth/token", data=form)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")


def test_refusals_have_the_codes_of_the_standard(
    client: TestClient, services: Services, clock: FakeClock, alice: User
) -> None:
    denied, late = _start(client), _start(client)
    services.device_flow.deny(denied["user_code"], alice)
    assert _poll(client, denied["device_code"])["error"] == "access_denied"
    assert _poll(client, "unknown")["error"] == "invalid_grant"
    clock.advance(901)
    assert _poll(client, late["device_code"])["error"] == "expired_token"


@pytest.mark.parametrize(
    ("path", "form", "error"),
    [
        ("/oauth/device", {}, "invalid_request"),
        ("/oauth/device", {"client_id": ""}, "invalid_request"),
        ("/oauth/device", {"client_id": "x" * 201}, "invalid_client"),
        ("/oauth/token", {}, "invalid_request"),
        ("/oauth/token", {"grant_type": "password"}, "unsupported_grant_type"),
        ("/oauth/token", {"grant_type": _DEVICE_CODE}, "invalid_request"),
        ("/oauth/token", {"grant_type": "refresh_token", "client_id": "x"}, "invalid_request"),
    ],
)
def test_a_bad_form_is_refused_in_oauths_words(
    client: TestClient, path: str, form: dict[str, str], error: str
) -> None:
    answer = client.post(path, data=form)
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert answer.json()["error_description"]


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("body", [b"", b'{"grant_type": 1}', b"\xff\xfe", b"&=&=" * 1000])
def test_a_body_that_is_no_form_is_refused(
    client: TestClient, content_type: str, body: bytes
) -> None:
    headers = {"Content-Type": content_type}
    answer = client.post("/oauth/token", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_a_huge_form_is_refused(client: TestClient) -> None:
    answer = client.post("/oauth/token", data={"grant_type": "x" * 20_000})
    assert answer.status_code == 413


def test_starting_sign_ins_without_end_is_limited(client: TestClient) -> None:
    for _ in range(60):
        _start(client)
    answer = client.post("/oauth/device", data={"client_id": _CLIENT})
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 300
