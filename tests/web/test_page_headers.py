"""What holds for every page: its headers, no inline script or style, bounded forms."""

import pytest
from factories import Hub
from visitor import Page, Visitor

from gatehouse.repos.repository import Gate

PATHS = [
    "/",
    "/models",
    "/login",
    "/join",
    "/settings/tokens",
    "/settings/password",
    "/device",
    "/new",
    "/owner",
    "/owner/repo",
    "/owner/repo/tree/main",
    "/owner/repo/blob/main/README.md",
    "/owner/repo/commits/main",
    "/owner/repo/settings",
    "/owner/repo/settings/access",
    "/owner/absent",
    "/absent",
]
# Planted everywhere a person can write: card, file name, commit message.
PLANT = "<img src=x onerror=alert(1)>"


@pytest.fixture
def pages(hub: Hub) -> list[Page]:
    owner = hub.make_user("owner")
    files = {"README.md": f"---\ntags: ['{PLANT}']\n---\n# {PLANT}".encode(), f"{PLANT}.txt": b"x"}
    hub.make_repo(owner, "repo", gate=Gate.MANUAL, files=files)
    stranger = hub.make_user("stranger")
    visitors = [Visitor(hub), Visitor(hub, owner), Visitor(hub, stranger)]
    return [visitor.get(path) for visitor in visitors for path in PATHS]


def test_every_page_says_what_may_run_in_it(pages: list[Page]) -> None:
    for page in pages:
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy
        for part in ("frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"):
            assert part in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["referrer-policy"] == "same-origin"
        assert page.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in page.headers


def test_no_page_has_inline_script_or_style_or_a_foreign_address(pages: list[Page]) -> None:
    for page in pages:
        if "location" in page.headers:
            continue
        assert "<script>" not in page.html
        for tag, attributes in page.elements:
            assert tag not in {"style", "iframe", "object", "embed"}
            assert not any(name.startswith("on") or name == "style" for name in attributes)
            for name in ("src", "action"):
                assert (attributes.get(name) or "/").startswith("/")
        for link in page.all("link") + page.all("script"):
            address = link.get("href") or link.get("src") or ""
            assert address.startswith("/static/")


def test_every_page_has_a_language_a_title_a_skip_link_and_one_main(pages: list[Page]) -> None:
    for page in pages:
        if "location" in page.headers:
            continue
        assert page.all("html", lang="en")
        assert page.all("a", class_="skip-link", href="#main")
        assert len(page.all("main", id="main")) == 1
        assert page.html.count("<title>") == 1
        ids = [found["id"] for _, found in page.elements if found.get("id")]
        assert len(ids) == len(set(ids))


def test_every_field_has_a_label(pages: list[Page]) -> None:
    for page in pages:
        labelled = {found.get("for") for found in page.all("label")}
        fields = page.all("input") + page.all("select") + page.all("textarea")
        for field in fields:
            if field.get("type") in ("hidden", "radio", "checkbox") or "hidden" in field:
                continue
            assert "aria-label" in field or field.get("id") in labelled


def test_pages_weigh_little(pages: list[Page]) -> None:
    for page in pages:
        assert len(page.html.encode()) < 100_000


def test_static_files_are_kept_by_browsers_for_good(hub: Hub) -> None:
    page = Visitor(hub).get("/")
    [sheet] = page.all("link", rel="stylesheet")
    answer = hub.client.get(sheet["href"] or "")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/css")
    assert "immutable" in answer.headers["cache-control"]
    assert hub.client.get("/static/%2e%2e/pages/home.py").status_code == 404
    assert hub.client.get("/static/absent.css").status_code == 404


def test_a_form_that_is_too_large_is_refused(hub: Hub) -> None:
    page = Visitor(hub).post("/login", {"username": "a" * 300_000, "password": "x"})
    assert page.status == 413


def test_a_notice_is_a_sentence_of_ours_or_nothing(hub: Hub) -> None:
    assert "You are signed out." in Visitor(hub).get("/?notice=signed-out").text
    assert "Send money" not in Visitor(hub).get("/?notice=Send%20money").text


def test_an_error_answers_pages_to_browsers_and_json_to_programs(hub: Hub) -> None:
    page = Visitor(hub).get("/absent")
    assert (page.status, "Nothing here" in page.text) == (404, True)
    answer = hub.client.get("/absent", headers={"Accept": "*/*"})
    assert answer.status_code == 404
    assert answer.json()["error"]
