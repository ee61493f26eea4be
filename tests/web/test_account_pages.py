"""Sign up, sign in, tokens, password and device approval, as a person meets them."""

import pytest
from factories import PASSWORD, Hub, bearer
from visitor import Page, Visitor

from gatehouse.http.actors import SESSION_COOKIE
from gatehouse.identity.permissions import TokenRole


def token_value(page: Page) -> str:
    """The value that the page shows, once."""
    _, _, rest = page.html.partition('id="token-value"')
    return rest.partition(">")[2].partition("<")[0]


def whoami(hub: Hub, value: str) -> int:
    return hub.client.get("/api/whoami-v2", headers=bearer(value)).status_code


def test_signing_up_signs_in(hub: Hub) -> None:
    page = Visitor(hub).post(
        "/join", {"username": "ann", "email": "ann@example.com", "password": PASSWORD}
    )
    assert (page.status, page.location) == (303, "/?notice=welcome")
    cookie = page.headers["set-cookie"]
    for part in ("HttpOnly", "SameSite=lax", "Path=/"):
        assert part in cookie
    assert "Secure" not in cookie
    value = cookie.partition("=")[2].partition(";")[0]
    home = hub.client.get("/", headers={"Cookie": f"{SESSION_COOKIE}={value}"})
    assert "Signed in as <strong>ann</strong>" in home.text


@pytest.mark.parametrize(
    ("field", "value", "status", "sentence"),
    [
        ("username", "ann", 409, "taken"),
        ("username", "settings", 400, "the server uses that word itself"),
        ("username", "<script>alert(1)</script>", 400, "`name` must be"),
        ("email", "nonsense", 400, "`email` must look like"),
        ("password", "short", 400, "`password` must be"),
    ],
)
def test_a_wrong_field_is_named_and_the_others_are_kept(
    hub: Hub, field: str, value: str, status: int, sentence: str
) -> None:
    hub.make_user("ann")
    fields = {"username": "ben", "email": "ben@example.com", "password": PASSWORD, field: value}
    page = Visitor(hub).post("/join", fields)
    assert page.status == status
    assert sentence in page.text
    assert page.all("input", name="email")[0]["value"] == fields["email"]
    assert "value" not in page.all("input", name="password")[0]


def test_sign_up_can_be_closed(hub: Hub) -> None:
    object.__setattr__(hub.services.settings, "allow_signup", False)
    page = Visitor(hub).post("/join", {"username": "ann", "email": "a@b.c", "password": PASSWORD})
    assert page.status == 403
    assert "/join" not in Visitor(hub).get("/").links()


def test_signing_in_leads_to_where_one_was(hub: Hub) -> None:
    hub.make_user("ann")
    page = Visitor(hub).post(
        "/login", {"username": "ANN@example.com", "password": PASSWORD, "next": "/settings/tokens"}
    )
    assert (page.status, page.location) == (303, "/settings/tokens")


@pytest.mark.parametrize(
    "target", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:x", ""]
)
def test_signing_in_leads_nowhere_else(hub: Hub, target: str) -> None:
    hub.make_user("ann")
    fields = {"username": "ann", "password": PASSWORD, "next": target}
    assert Visitor(hub).post("/login", fields).location == "/"


def test_a_wrong_password_says_so_and_signs_nobody_in(hub: Hub) -> None:
    hub.make_user("ann")
    page = Visitor(hub).post("/login", {"username": "ann", "password": "wrong password"})
    assert page.status == 401
    assert "The name or the password is wrong." in page.text
    assert "set-cookie" not in page.headers
    assert page.all("input", name="username")[0]["value"] == "ann"


def test_guessing_passwords_is_slowed_down(hub: Hub) -> None:
    hub.make_user("ann")
    guesses = [Visitor(hub).post("/login", {"username": "ann", "password": "x"}) for _ in range(11)]
    assert [page.status for page in guesses] == [401] * 10 + [429]
    assert "Too many attempts" in guesses[-1].text


def test_signing_out_ends_the_session(hub: Hub) -> None:
    visitor = Visitor(hub, hub.make_user("ann"))
    assert visitor.get("/settings/tokens").status == 200
    assert visitor.post("/logout").location == "/?notice=signed-out"
    assert visitor.get("/settings/tokens").status == 401


def test_a_page_for_members_shows_the_sign_in_form_to_others(hub: Hub) -> None:
    page = Visitor(hub).get("/settings/tokens")
    assert page.status == 401
    assert page.all("input", name="next")[0]["value"] == "/settings/tokens"


def test_a_token_is_shown_once(hub: Hub) -> None:
    visitor = Visitor(hub, hub.make_user("ann"))
    page = visitor.post("/settings/tokens", {"name": "my server", "role": "read"})
    value = token_value(page)
    assert page.status == 200
    assert value.startswith("hf_")
    assert whoami(hub, value) == 200
    again = visitor.get("/settings/tokens")
    assert value not in again.html
    assert f"hf_…{value[-4:]}" in again.text


def test_read_is_the_role_that_is_chosen_for_you(hub: Hub) -> None:
    visitor = Visitor(hub, hub.make_user("ann"))
    [chosen] = [
        found
        for found in visitor.get("/settings/tokens").all("input", name="role")
        if "checked" in found
    ]
    assert chosen["value"] == "read"
    visitor.post("/settings/tokens", {"name": "no role given"})
    ann = hub.services.users.by_name("ann")
    assert hub.services.tokens.list(ann.id)[0].role is TokenRole.READ


@pytest.mark.parametrize(
    ("fields", "status", "sentence"),
    [
        ({"name": " ", "role": "read"}, 400, "`name` must be"),
        ({"name": "a", "role": "admin"}, 400, "`role` must be"),
        ({"name": "read token", "role": "read"}, 409, "taken"),
    ],
)
def test_a_token_that_cannot_be_made_says_why(
    hub: Hub, fields: dict[str, str], status: int, sentence: str
) -> None:
    visitor = Visitor(hub, hub.make_user("ann"))
    page = visitor.post("/settings/tokens", fields)
    assert page.status == status
    assert sentence in page.text


def test_a_refreshed_token_has_a_new_value_and_the_old_one_is_dead(hub: Hub) -> None:
    ann = hub.make_user("ann")
    visitor = Visitor(hub, ann)
    old = token_value(visitor.post("/settings/tokens", {"name": "t", "role": "write"}))
    token = hub.services.tokens.list(ann.user.id)[0]
    page = visitor.post(f"/settings/tokens/{token.id}/refresh")
    new = token_value(page)
    assert new != old
    assert (whoami(hub, old), whoami(hub, new)) == (401, 200)
    assert "The old value has stopped working" in page.text
    assert hub.services.tokens.list(ann.user.id)[0].role is TokenRole.WRITE


def test_a_deleted_token_is_dead(hub: Hub) -> None:
    ann = hub.make_user("ann")
    visitor = Visitor(hub, ann)
    value = token_value(visitor.post("/settings/tokens", {"name": "t", "role": "read"}))
    token = hub.services.tokens.list(ann.user.id)[0]
    assert visitor.post(f"/settings/tokens/{token.id}/delete").status == 303
    assert whoami(hub, value) == 401


@pytest.mark.parametrize("action", ["refresh", "delete", "dismiss"])
def test_nobody_manages_the_token_of_another(hub: Hub, action: str) -> None:
    ann, eve = hub.make_user("ann"), hub.make_user("eve")
    token = hub.services.tokens.list(ann.user.id)[0]
    before = hub.state()
    page = Visitor(hub, eve).post(f"/settings/tokens/{token.id}/{action}")
    assert page.status == 404
    after = hub.state()
    assert after["access_tokens"] == before["access_tokens"]


def test_a_leaked_token_is_shown_and_can_be_dismissed(hub: Hub) -> None:
    ann = hub.make_user("ann")
    visitor = Visitor(hub, ann)
    value = token_value(visitor.post("/settings/tokens", {"name": "web", "role": "read"}))
    hub.client.get("/api/whoami-v2", headers={**bearer(value), "Origin": "https://app.example"})
    page = visitor.get("/settings/tokens")
    assert "“web” was used by a web page." in page.text
    assert "https://app.example" in page.text
    token = hub.services.tokens.list(ann.user.id)[0]
    visitor.post(f"/settings/tokens/{token.id}/dismiss")
    assert "was used by a web page" not in visitor.get("/settings/tokens").text


@pytest.mark.parametrize("path", ["/settings/tokens", "/settings/password", "/device"])
@pytest.mark.parametrize("role", ["read", "write"])
def test_a_token_does_not_open_the_settings(hub: Hub, path: str, role: str) -> None:
    ann = hub.make_user("ann")
    headers = ann.write if role == "write" else ann.read
    assert hub.client.get(path, headers={**headers, "Accept": "text/html"}).status_code == 403


POSTS = [
    ("/settings/tokens", {"name": "t", "role": "read"}),
    ("/settings/tokens/1/delete", {}),
    ("/settings/tokens/1/refresh", {}),
    ("/settings/password", {"current": PASSWORD, "new": "another long one"}),
    ("/device", {"user_code": "BCDF-GHJK", "decision": "approve"}),
    ("/new", {"namespace": "ann", "name": "r", "kind": "model"}),
    ("/logout", {}),
]


@pytest.mark.parametrize(("path", "fields"), POSTS)
def test_a_forged_form_is_refused_and_changes_nothing(
    hub: Hub, path: str, fields: dict[str, str]
) -> None:
    visitor = Visitor(hub, hub.make_user("ann"))
    before = hub.state()
    for forged in (
        visitor.post(path, {**fields, "csrf_token": ""}),
        visitor.post(path, {**fields, "csrf_token": "0" * 64}),
        visitor.post(path, fields, Origin="https://evil.example"),
        visitor.post(path, fields, **{"Sec-Fetch-Site": "cross-site"}),
    ):
        assert forged.status == 403
    assert hub.state() == before


def test_the_password_is_changed_by_who_knows_it(hub: Hub) -> None:
    ann = hub.make_user("ann")
    visitor, elsewhere = Visitor(hub, ann), Visitor(hub, ann)
    wrong = visitor.post("/settings/password", {"current": "not it", "new": "a new long one"})
    assert (wrong.status, "not right" in wrong.text) == (403, True)
    short = visitor.post("/settings/password", {"current": PASSWORD, "new": "short"})
    assert short.status == 400
    right = visitor.post("/settings/password", {"current": PASSWORD, "new": "a new long one"})
    assert right.status == 303
    assert visitor.get("/settings/password").status == 200
    assert elsewhere.get("/settings/password").status == 401
    assert hub.services.users.authenticate("ann", "a new long one").name == "ann"


def test_a_device_is_approved_by_a_person_who_saw_its_code(hub: Hub) -> None:
    visitor = Visitor(hub, hub.make_user("ann"))
    grant = hub.services.device_flow.start("some-client")
    shown = visitor.get(f"/device?user_code={grant.user_code.lower()}")
    assert grant.user_code in shown.text
    assert "some-client" in shown.text
    done = visitor.post("/device", {"user_code": grant.user_code, "decision": "approve"})
    assert done.location == "/device?notice=device-approved"
    issued = hub.services.device_flow.poll(grant.device_code, "some-client")
    assert whoami(hub, issued.access_token) == 200


def test_a_code_that_nobody_waits_for_is_said_to_be_unknown(hub: Hub) -> None:
    visitor = Visitor(hub, hub.make_user("ann"))
    assert visitor.get("/device?user_code=BCDF-GHJK").status == 404
    assert visitor.get("/device?user_code=%3Cscript%3E").status == 404
    page = visitor.post("/device", {"user_code": "BCDF-GHJK", "decision": "approve"})
    assert page.status == 404
