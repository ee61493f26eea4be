"""Repositories as pages: what is shown to whom, and the gate from both sides."""

import pytest
from factories import Hub, Person
from visitor import Visitor

from gatehouse.core.ids import RepoKind
from gatehouse.identity.permissions import Permission
from gatehouse.repos.gating import RequestStatus
from gatehouse.repos.repository import Gate, Repository, Visibility

CARD = b"""---
license: mit
pipeline_tag: text-generation
extra_gated_heading: Read the terms
extra_gated_prompt: "You agree **not** to harm. <script>alert(1)</script>"
extra_gated_button_content: I agree
extra_gated_fields:
  Company: text
  Purpose:
    type: select
    options: [Research, Teaching]
  I will be careful: checkbox
---
# Tiny

See [the example](examples/a.txt).
"""
ANSWERS = {
    "field:Company": "Acme & Co",
    "field:Purpose": "Research",
    "field:I will be careful": "true",
}
PAGE = "/owner/tiny"
EVIL = '"><script>alert(1)</script>'


@pytest.fixture
def owner(hub: Hub) -> Person:
    return hub.make_user("owner")


@pytest.fixture
def gated(hub: Hub, owner: Person) -> Repository:
    files = {
        "README.md": CARD,
        "config.json": b'{"model_type": "llama"}',
        "examples/a.txt": b"once",
    }
    return hub.make_repo(owner, "tiny", gate=Gate.MANUAL, files=files)


def test_a_card_is_shown_with_its_metadata(hub: Hub, gated: Repository) -> None:
    page = Visitor(hub).get(PAGE)
    assert page.status == 200
    assert '<h1 id="user-content-tiny">Tiny</h1>' in page.html
    assert f"{PAGE}/blob/main/examples/a.txt" in page.links()
    for fact in ("text-generation", "mit", "Task"):
        assert fact in page.text
    assert "pipeline_tag" not in page.text


def test_nobody_is_asked_to_sign_in_at_a_gate(hub: Hub, gated: Repository) -> None:
    page = Visitor(hub).get(PAGE)
    assert "Read the terms" in page.text
    assert "/login?next=%2Fowner%2Ftiny" in page.links()
    assert not page.all("form", action=f"{PAGE}/ask-access")


def test_the_owners_form_is_drawn_with_its_fields(hub: Hub, gated: Repository) -> None:
    page = Visitor(hub, hub.make_user("ann")).get(PAGE)
    assert page.all("input", name="field:Company", type="text")
    assert page.all("select", name="field:Purpose")
    assert page.all("input", name="field:I will be careful", type="checkbox")
    assert "I agree" in page.text
    assert "ann@example.com" in page.text
    assert "<strong>not</strong>" in page.html
    assert "<script>alert" not in page.html


def test_asking_accepting_reading_and_losing_access(
    hub: Hub, owner: Person, gated: Repository
) -> None:
    ann = hub.make_user("ann")
    visitor, boss = Visitor(hub, ann), Visitor(hub, owner)
    assert visitor.get(f"{PAGE}/blob/main/config.json").status == 403

    asked = visitor.post(f"{PAGE}/ask-access", ANSWERS)
    assert asked.location == f"{PAGE}?notice=access-asked"
    assert "Your request awaits review" in visitor.get(PAGE).text

    waiting = boss.get(f"{PAGE}/settings/access")
    assert "Acme & Co" in waiting.text
    assert "ann@example.com" in waiting.text
    [request] = hub.services.gating.list(gated, RequestStatus.PENDING)
    decision = f"{PAGE}/settings/access/{request.id}"
    accepted = boss.post(decision, {"decision": "accepted"})
    assert accepted.location == f"{PAGE}/settings/access?notice=request-accepted"
    assert "You have access to this model" in visitor.get(PAGE).text
    assert visitor.get(f"{PAGE}/blob/main/config.json").status == 200

    cancelled = boss.post(decision, {"decision": "pending", "from_status": "accepted"})
    assert cancelled.status == 303
    assert visitor.get(f"{PAGE}/blob/main/config.json").status == 403


def test_a_rejection_shows_its_reason_and_cannot_be_asked_away(
    hub: Hub, owner: Person, gated: Repository
) -> None:
    visitor = Visitor(hub, hub.make_user("ann"))
    visitor.post(f"{PAGE}/ask-access", ANSWERS)
    [request] = hub.services.gating.list(gated, RequestStatus.PENDING)
    Visitor(hub, owner).post(
        f"{PAGE}/settings/access/{request.id}",
        {"decision": "rejected", "reason": "No <b>company</b> mail."},
    )
    page = visitor.get(PAGE)
    assert "The owner wrote: No <b>company</b> mail." in page.text
    assert visitor.post(f"{PAGE}/ask-access", ANSWERS).status == 409


def test_a_missing_answer_is_named_and_the_others_are_kept(hub: Hub, gated: Repository) -> None:
    visitor = Visitor(hub, hub.make_user("ann"))
    page = visitor.post(f"{PAGE}/ask-access", {**ANSWERS, "field:Purpose": "Mischief"})
    assert page.status == 400
    assert "`Purpose`: choose one of the options." in page.text
    assert page.all("input", name="field:Company")[0]["value"] == "Acme & Co"
    assert hub.services.gating.list(gated, RequestStatus.PENDING) == []


def test_an_automatic_gate_opens_at_once(hub: Hub, owner: Person) -> None:
    hub.make_repo(owner, "auto", gate=Gate.AUTO, files={"a.txt": b"a"})
    visitor = Visitor(hub, hub.make_user("ann"))
    assert visitor.post("/owner/auto/ask-access").location.endswith("notice=access-granted")
    assert visitor.get("/owner/auto/blob/main/a.txt").status == 200


def test_a_program_asks_with_json_and_is_answered_with_json(hub: Hub, gated: Repository) -> None:
    ann = hub.make_user("ann")
    answers = {"Company": "Acme", "Purpose": "Teaching", "I will be careful": True}
    asked = hub.client.post(f"{PAGE}/ask-access", json=answers, headers=ann.write)
    assert asked.status_code == 200
    assert asked.json()["status"] == "pending"
    wrong = hub.client.post(f"{PAGE}/ask-access", json={}, headers=ann.write)
    assert wrong.status_code == 400
    assert "`Company`" in wrong.json()["error"]
    for body in (b"[1]", b"{", b"\xff"):
        headers = {**ann.write, "Content-Type": "application/json"}
        answer = hub.client.post(f"{PAGE}/ask-access", content=body, headers=headers)
        assert answer.status_code == 400
    assert hub.client.post(f"{PAGE}/ask-access", json=answers).status_code == 401
    assert hub.client.post(f"{PAGE}/ask-access", json=answers, headers=ann.read).status_code == 403


def test_a_forged_request_for_access_is_refused(hub: Hub, gated: Repository) -> None:
    visitor = Visitor(hub, hub.make_user("ann"))
    assert visitor.post(f"{PAGE}/ask-access", {**ANSWERS, "csrf_token": "0"}).status == 403
    assert visitor.post(f"{PAGE}/ask-access", ANSWERS, Origin="https://evil.example").status == 403
    assert hub.services.gating.list(gated, RequestStatus.PENDING) == []


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/settings", {"visibility": "public", "gate": "open"}),
        ("/settings/delete", {"confirm": "owner/tiny"}),
        ("/settings/access/grant", {"user": "ann"}),
        ("/settings/access/1", {"decision": "accepted"}),
    ],
)
def test_only_the_owner_decides(
    hub: Hub, owner: Person, gated: Repository, path: str, fields: dict[str, str]
) -> None:
    stranger, boss = Visitor(hub, hub.make_user("ann")), Visitor(hub, owner)
    stranger.post(f"{PAGE}/ask-access", ANSWERS)
    before = hub.state()
    assert stranger.post(PAGE + path, fields).status == 403
    assert Visitor(hub).post(PAGE + path, fields).status == 401
    assert boss.post(PAGE + path, {**fields, "csrf_token": "x"}).status == 403
    assert hub.state() == before
    assert stranger.get(f"{PAGE}/settings").status == 403
    assert stranger.get(f"{PAGE}/settings/access").status == 403


def test_the_owner_lets_somebody_in_who_did_not_ask(
    hub: Hub, owner: Person, gated: Repository
) -> None:
    ann = hub.make_user("ann")
    boss = Visitor(hub, owner)
    assert boss.post(f"{PAGE}/settings/access/grant", {"user": "ann"}).status == 303
    assert hub.services.access.allows(ann.actor, gated, Permission.REPO_CONTENT)
    assert boss.post(f"{PAGE}/settings/access/grant", {"user": "ann"}).status == 400
    unknown = boss.post(f"{PAGE}/settings/access/grant", {"user": "nobody<b>"})
    assert unknown.status == 404
    assert "There is no user `nobody<b>`." in unknown.text


def test_the_owner_changes_the_gate_and_deletes(hub: Hub, owner: Person, gated: Repository) -> None:
    boss = Visitor(hub, owner)
    boss.post(f"{PAGE}/settings", {"visibility": "private", "gate": "open"})
    changed = hub.services.repositories.by_id(gated.id)
    assert changed is not None
    assert (changed.visibility, changed.gate) == (Visibility.PRIVATE, Gate.OPEN)
    assert boss.post(f"{PAGE}/settings/delete", {"confirm": "tiny"}).status == 400
    assert hub.services.repositories.by_id(gated.id) is not None
    assert boss.post(f"{PAGE}/settings/delete", {"confirm": "owner/tiny"}).status == 303
    assert hub.services.repositories.by_id(gated.id) is None


def test_a_private_repository_does_not_exist_for_others(hub: Hub, owner: Person) -> None:
    hub.make_repo(owner, "secret", private=True, files={"README.md": b"# Secret plans"})
    stranger = Visitor(hub, hub.make_user("ann"))
    for path in ("/", "/models", "/models?search=secret", "/owner"):
        assert "/owner/secret" not in stranger.get(path).html
    for path in ("", "/tree/main", "/blob/main/README.md", "/commits/main", "/settings"):
        assert stranger.get(f"/owner/secret{path}").status == 404
        assert Visitor(hub).get(f"/owner/secret{path}").status == 401
    assert "Secret plans" in Visitor(hub, owner).get("/owner/secret").text


def test_folders_list_their_files_with_sizes_and_last_changes(hub: Hub, owner: Person) -> None:
    files = {"a b#c?.txt": b"x" * 1500, "sub/inner.txt": b"y"}
    large = {"weights.safetensors": b"w" * 2_000_000}
    hub.make_repo(owner, "files", files=files, large_files=large)
    page = Visitor(hub).get("/owner/files/tree/main")
    for text in ("1.5 kB", "2 MB", "LFS", "add files", "2 commits"):
        assert text in page.text
    assert "/owner/files/blob/main/a%20b%23c%3F.txt" in page.links()
    assert Visitor(hub).get("/owner/files/blob/main/a%20b%23c%3F.txt").status == 200
    assert (
        "/owner/files/blob/main/sub/inner.txt"
        in Visitor(hub).get("/owner/files/tree/main/sub").links()
    )
    assert Visitor(hub).get("/owner/files/tree/main/nothing").status == 404
    assert Visitor(hub).get("/owner/files/tree/nothing").status == 404
    assert "add files" in Visitor(hub).get("/owner/files/commits/main").text


@pytest.mark.parametrize(
    ("name", "content", "shown"),
    [
        ("page.html", EVIL.encode(), EVIL),
        ("long.txt", b"x" * 600_000, "too large to show"),
        ("zero.txt", b"a\0b", "not text"),
        ("latin.txt", "é".encode("latin-1"), "not text in UTF-8"),
        ("notes.md", b"# Head\n" + EVIL.encode(), "Head"),
        ("empty.txt", b"", "0 bytes"),
    ],
)
def test_one_file_is_shown_as_text_or_not_at_all(
    hub: Hub, owner: Person, name: str, content: bytes, shown: str
) -> None:
    hub.make_repo(owner, "files", files={name: content})
    page = Visitor(hub).get(f"/owner/files/blob/main/{name}")
    assert page.status == 200
    assert shown in page.text
    assert "<script>alert" not in page.html
    assert f"/owner/files/resolve/main/{name}" in page.links()


def test_a_readme_that_cannot_be_read_does_no_harm(hub: Hub, owner: Person) -> None:
    readme = b"---\nlicense: [unclosed\n---\n# Still here\n"
    hub.make_repo(owner, "broken", gate=Gate.MANUAL, files={"README.md": readme})
    page = Visitor(hub, hub.make_user("ann")).get("/owner/broken")
    assert page.status == 200
    assert "Still here" in page.text


def test_a_repository_is_created(hub: Hub, owner: Person) -> None:
    boss = Visitor(hub, owner)
    fields = {"namespace": "owner", "name": "new-data", "kind": "dataset"}
    page = boss.post("/new", {**fields, "visibility": "private", "gate": "manual"})
    assert page.location == "/datasets/owner/new-data?notice=repository-created"
    [made] = hub.services.repositories.list_visible(owner.actor, RepoKind.DATASET)
    assert (made.is_private, made.gate) == (True, Gate.MANUAL)
    assert boss.get("/datasets/owner/new-data").status == 200


@pytest.mark.parametrize(
    ("fields", "status", "sentence"),
    [
        ({"name": "a b"}, 400, "`name` must be"),
        ({"name": ""}, 400, "`name` must be"),
        ({"name": "x", "namespace": "ann"}, 400, "rights"),
        ({"name": "taken"}, 409, "already created"),
        ({"name": "x", "kind": "kernel"}, 400, "kind"),
    ],
)
def test_a_repository_that_cannot_be_made_says_why(
    hub: Hub, owner: Person, fields: dict[str, str], status: int, sentence: str
) -> None:
    hub.make_user("ann")
    hub.make_repo(owner, "taken")
    boss = Visitor(hub, owner)
    before = hub.state()
    page = boss.post("/new", {"namespace": "owner", "kind": "model", **fields})
    assert (page.status, sentence in page.text) == (status, True)
    assert hub.state() == before


def test_a_profile_lists_what_may_be_known(hub: Hub, owner: Person) -> None:
    hub.make_repo(owner, "open")
    hub.make_repo(owner, "data", kind=RepoKind.DATASET)
    page = Visitor(hub).get("/owner")
    assert {"/owner/open", "/datasets/owner/data"} <= page.links()
    assert Visitor(hub).get("/nobody-here").status == 404


def test_the_catalogue_finds_by_name(hub: Hub, owner: Person) -> None:
    hub.make_repo(owner, "tiny-llama")
    hub.make_repo(owner, "other")
    page = Visitor(hub).get("/models?search=LLAMA")
    assert "/owner/tiny-llama" in page.links()
    assert "/owner/other" not in page.links()
    assert "Nothing matches “<b>”" in Visitor(hub).get("/models?search=%3Cb%3E").text
