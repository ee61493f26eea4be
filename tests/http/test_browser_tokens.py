"""Access tokens stay on servers: pages of other origins may not use one."""

import pytest
from factories import Hub, bearer

from gatehouse.identity.permissions import TokenRole


@pytest.mark.parametrize(
    "signs",
    [
        {"Origin": "https://page.test"},
        {"Origin": "null"},
        {"Origin": "https://hub.test"},
        {"Sec-Fetch-Site": "cross-site", "Referer": "https://page.test/a"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_token_from_a_page_is_refused_and_its_owner_warned(
    hub: Hub, signs: dict[str, str]
) -> None:
    olivia = hub.make_user("olivia")
    new = hub.services.tokens.create(olivia.user.id, "shipped", TokenRole.READ)
    for method, address in (("GET", "/api/whoami-v2"), ("POST", "/api/repos/create")):
        answer = hub.client.request(method, address, headers={**bearer(new.value), **signs})
        assert answer.status_code == 403
        assert answer.headers["x-error-code"] == "TokenInBrowser"
        assert "server" in answer.json()["error"]
        assert answer.headers["access-control-allow-origin"] == "*"
    assert hub.services.tokens.get(olivia.user.id, new.token.id).leaked_at is not None


def test_a_token_from_our_own_page_and_from_programs_is_fine(hub: Hub) -> None:
    olivia = hub.make_user("olivia")
    for signs in (
        {},
        {"Origin": "http://hub.test"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ):
        answer = hub.client.get("/api/whoami-v2", headers={**olivia.read, **signs})
        assert answer.status_code == 200


def test_a_preflight_is_answered_without_a_credential(hub: Hub) -> None:
    answer = hub.client.options(
        "/olivia/model/resolve/main/a",
        headers={"Origin": "https://page.test", "Access-Control-Request-Method": "GET"},
    )
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "range" in answer.headers["access-control-allow-headers"]


def test_pages_may_read_errors_and_redirects_without_a_token(hub: Hub) -> None:
    answer = hub.client.get("/api/models/nobody/nothing", headers={"Origin": "https://page.test"})
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "X-Error-Code" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers
