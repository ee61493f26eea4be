"""Whose request it is: tokens, sessions, and credentials that are not quite."""

import base64

import pytest
from factories import Hub, Person, basic, bearer

from gatehouse.identity.permissions import TokenRole

_INVALID = "Invalid credentials in Authorization header"


@pytest.fixture
def olivia(hub: Hub) -> Person:
    return hub.make_user("olivia")


def token_of(person: Person) -> str:
    return person.read["Authorization"].removeprefix("Bearer ")


def whoami(hub: Hub, headers: dict[str, str]) -> int:
    return hub.client.get("/api/whoami-v2", headers=headers).status_code


def test_a_token_counts_as_bearer_and_as_any_password(hub: Hub, olivia: Person) -> None:
    token = token_of(olivia)
    for headers in (bearer(token), basic("", token), basic("hf_user", token), basic("x:", token)):
        expected = 401 if headers == basic("x:", token) else 200
        assert whoami(hub, headers) == expected
    assert whoami(hub, {"Authorization": f"bearer  {token} "}) == 200


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer nonsense",
        b"Bearer hf_" + b"a" * 34,
        b"Bearer " + b"h" * 5000,
        b"Basic",
        b"Basic !!!",
        b"Basic \xe9",
        b"Basic " + base64.b64encode(b"\xff\xfe:\xff"),
        b"Basic " + base64.b64encode(b"no colon"),
        b"Digest username=olivia",
        b"hf_token",
    ],
)
def test_a_credential_that_is_given_and_wrong_is_refused_even_where_nobody_is_let_in(
    hub: Hub, olivia: Person, value: bytes
) -> None:
    hub.make_repo(olivia, "open")
    for address in ("/api/whoami-v2", "/api/models/olivia/open", "/api/models"):
        answer = hub.client.get(address, headers={b"Authorization": value})
        assert answer.status_code == 401
        assert answer.headers["x-error-message"] == _INVALID
        assert "x-error-code" not in answer.headers


def test_a_revoked_and_a_refreshed_token_are_dead_at_once(hub: Hub, olivia: Person) -> None:
    tokens = hub.services.tokens
    first = tokens.create(olivia.user.id, "one", TokenRole.READ)
    assert whoami(hub, bearer(first.value)) == 200
    second = tokens.refresh(olivia.user.id, first.token.id)
    assert whoami(hub, bearer(first.value)) == 401
    assert whoami(hub, bearer(second.value)) == 200
    tokens.delete(olivia.user.id, first.token.id)
    assert whoami(hub, bearer(second.value)) == 401


def test_a_session_reads_and_is_refused_for_a_page_of_another_site(
    hub: Hub, olivia: Person
) -> None:
    repository = hub.make_repo(olivia, "secret", private=True, files={"a.txt": b"x"})
    session = {"Cookie": hub.make_session(olivia.user)}
    assert hub.client.get("/olivia/secret/resolve/main/a.txt", headers=session).status_code == 200
    body = {"name": "secret", "organization": "olivia"}
    for foreign in (
        {"Origin": "https://evil.test"},
        {"Origin": "null"},
        {"Origin": "http://hub.test.evil.test"},
        {"Origin": "https://hub.test"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        answer = hub.client.request(
            "DELETE", "/api/repos/delete", json=body, headers={**session, **foreign}
        )
        assert answer.status_code == 403
    assert hub.services.repositories.by_id(repository.id) is not None
    own = {"Origin": "http://hub.test", "Sec-Fetch-Site": "same-origin"}
    answer = hub.client.request(
        "DELETE", "/api/repos/delete", json=body, headers={**session, **own}
    )
    assert answer.status_code == 200


def test_an_unknown_session_is_nobody(hub: Hub, olivia: Person) -> None:
    hub.make_repo(olivia, "open")
    for value in ("x", "", "a" * 5000):
        cookie = {"Cookie": f"gatehouse_session={value}"}
        assert hub.client.get("/api/models/olivia/open", headers=cookie).status_code == 200
        assert whoami(hub, cookie) == 401


def test_a_bad_token_beside_a_good_session_is_refused(hub: Hub, olivia: Person) -> None:
    headers = {"Cookie": hub.make_session(olivia.user), **bearer("hf_wrong")}
    assert whoami(hub, headers) == 401


def test_git_is_asked_for_a_password_and_others_for_a_token(hub: Hub, olivia: Person) -> None:
    hub.make_repo(olivia, "secret", private=True)
    git = hub.client.get("/olivia/secret.git/info/refs?service=git-upload-pack")
    assert (git.status_code, git.headers["www-authenticate"]) == (401, 'Basic realm="Gatehouse"')
    api = hub.client.get("/api/models/olivia/secret")
    assert (api.status_code, api.headers["www-authenticate"]) == (401, "Bearer")
