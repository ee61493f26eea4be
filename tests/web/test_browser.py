"""The pages in a real Chromium, against a real server: what only a browser can show."""

import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Literal

import pytest
from hub_server import HubServer, Person
from huggingface_hub import HfApi
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

pytestmark = pytest.mark.browser

_CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
)
_CARD = b"""---
extra_gated_fields:
  Company: text
  I agree: checkbox
---
# Planted

<script>document.title = "pwned"</script> <img src="x" onerror="document.title = 'pwned'">
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if not _CHROMIUM:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    context = chromium.new_context(permissions=["clipboard-read", "clipboard-write"])
    yield context
    context.close()


def sign_in(page: Page, person: Person) -> None:
    page.goto(f"{person.hub.url}/login")
    page.get_by_label("User name or email").fill(person.name)
    page.get_by_label("Password").fill(person.password)
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{person.hub.url}/")


def status_of(url: str, token: str | None = None) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def make_gated(server: HubServer, name: str) -> tuple[Person, str]:
    """A manually gated model of its own owner, made and gated by the stock client."""
    owner = server.person(f"{name}-owner")
    repo_id = f"{owner.name}/{name}"
    api = HfApi(server.url, token=owner.write_token)
    api.create_repo(repo_id)
    api.upload_file(path_or_fileobj=_CARD, path_in_repo="README.md", repo_id=repo_id)
    api.upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id=repo_id)
    api.update_repo_settings(repo_id, gated="manual")
    return owner, repo_id


def test_from_sign_up_to_a_refreshed_token(server: HubServer, context: BrowserContext) -> None:
    page = context.new_page()
    page.goto(server.url)
    page.get_by_role("link", name="Create an account").click()
    page.get_by_label("User name").fill("signs-up")
    page.get_by_label("Email").fill("signs-up@example.com")
    page.get_by_label("Password").fill("a long enough password")
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_text("Welcome to Gatehouse")).to_be_visible()

    page.get_by_label("Your account, signs-up").click()
    page.get_by_role("link", name="Access tokens", exact=True).click()
    page.get_by_label("Name").fill("my server")
    expect(page.get_by_role("radio", name="Read")).to_be_checked()
    page.get_by_role("button", name="Generate").click()
    old = page.locator("#token-value").inner_text()
    page.get_by_role("button", name="Copy the token").click()
    expect(page.locator(".copy.copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == old
    assert status_of(f"{server.url}/api/whoami-v2", old) == 200

    page.goto(f"{server.url}/settings/tokens")
    expect(page.get_by_text("my server", exact=True)).to_be_visible()
    assert old not in page.content()

    page.get_by_label("Manage my server").click()
    page.get_by_role("button", name="Invalidate and refresh").click()
    dialog = page.get_by_role("dialog", name="Give “my server” a new value?")
    dialog.get_by_role("button", name="Invalidate and refresh").click()
    new = page.locator("#token-value").inner_text()
    assert new != old
    assert status_of(f"{server.url}/api/whoami-v2", old) == 401
    assert status_of(f"{server.url}/api/whoami-v2", new) == 200


def test_access_asked_for_on_the_page_and_accepted_by_the_stock_client(
    server: HubServer, context: BrowserContext
) -> None:
    owner, repo_id = make_gated(server, "asked")
    guest = server.person("guest")
    config = f"{server.url}/{repo_id}/resolve/main/config.json"
    page = context.new_page()
    sign_in(page, guest)
    page.goto(f"{server.url}/{repo_id}")
    assert status_of(config, guest.read_token) == 403
    page.get_by_label("Company").fill("Acme")
    page.get_by_label("I agree").check()
    page.get_by_role("button", name="Agree and request access").click()
    expect(page.get_by_text("Your request awaits review")).to_be_visible()

    api = HfApi(server.url, token=owner.write_token)
    [request] = api.list_pending_access_requests(repo_id)
    assert request.username == guest.name
    assert request.fields == {"Company": "Acme", "I agree": True}
    api.accept_access_request(repo_id, guest.name)
    page.reload()
    expect(page.get_by_text("You have access to this model")).to_be_visible()
    assert status_of(config, guest.read_token) == 200


def test_the_owner_decides_on_the_page(
    server: HubServer, chromium: Browser, context: BrowserContext
) -> None:
    owner, repo_id = make_gated(server, "decided")
    guest = server.person("second-guest")
    theirs = context.new_page()
    sign_in(theirs, guest)
    theirs.goto(f"{server.url}/{repo_id}")
    theirs.get_by_label("Company").fill("Acme")
    theirs.get_by_label("I agree").check()
    theirs.get_by_role("button", name="Agree and request access").click()

    with chromium.new_context() as other:
        page = other.new_page()
        sign_in(page, owner)
        page.goto(f"{server.url}/{repo_id}")
        page.get_by_role("link", name="Access requests 1").click()
        expect(page.get_by_text("second-guest@example.com")).to_be_visible()
        page.get_by_role("button", name="Reject…").click()
        dialog = page.get_by_role("dialog", name="Reject second-guest?")
        dialog.get_by_label("Reason").fill("Not this time.")
        dialog.get_by_role("button", name="Reject").click()
        expect(page.get_by_text("The request is rejected.")).to_be_visible()
    theirs.reload()
    expect(theirs.get_by_text("The owner wrote: Not this time.")).to_be_visible()


def test_the_keyboard_alone_is_enough(server: HubServer, context: BrowserContext) -> None:
    page = context.new_page()
    person = server.person("typist")
    page.goto(f"{server.url}/login")
    # The page puts the reader into the first field; on a busy machine a moment after it has loaded.
    expect(page.get_by_role("textbox").first).to_be_focused()
    page.keyboard.type(person.name)
    page.keyboard.press("Tab")
    page.keyboard.type(person.password)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{server.url}/")

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()

    menu = page.locator("summary[aria-label^='Your account']")
    menu.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Access tokens", exact=True)).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="Access tokens", exact=True)).to_be_hidden()
    expect(menu).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(2):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{server.url}/settings/tokens")


def test_everything_but_copying_works_without_a_script(
    server: HubServer, chromium: Browser
) -> None:
    with chromium.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        sign_in(page, server.person("purist"))
        page.goto(f"{server.url}/settings/tokens")
        page.get_by_label("Name").fill("no script")
        page.get_by_role("button", name="Generate").click()
        expect(page.locator("#token-value")).to_be_visible()
        expect(page.get_by_role("button", name="Copy the token")).to_be_hidden()
        page.get_by_label("Manage no script").click()
        page.get_by_role("button", name="Delete").click()
        dialog = page.get_by_role("dialog", name="Delete “no script”?")
        dialog.get_by_role("button", name="Delete").click()
        expect(page.get_by_text("The token is deleted.")).to_be_visible()


def test_a_planted_script_stays_text_and_no_policy_is_broken(
    server: HubServer, context: BrowserContext
) -> None:
    owner, repo_id = make_gated(server, "planted")
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    sign_in(page, owner)
    for path in ("", "/tree/main", "/blob/main/README.md", "/commits/main", "/settings"):
        page.goto(f"{server.url}/{repo_id}{path}")
        assert "pwned" not in page.title()
    policy = [line for line in said if "Content Security Policy" in line]
    assert policy == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_its_screen(
    server: HubServer, chromium: Browser, scheme: Literal["light", "dark"]
) -> None:
    owner, repo_id = make_gated(server, f"wide-{scheme}")
    with chromium.new_context(color_scheme=scheme) as context:
        page = context.new_page()
        sign_in(page, owner)
        account = ("/", "/models", "/settings/tokens", "/device", "/new", f"/{owner.name}")
        parts = ("", "/tree/main", "/blob/main/README.md", "/settings", "/settings/access")
        for path in (*account, *(f"/{repo_id}{part}" for part in parts)):
            page.goto(server.url + path)
            for width in (360, 390, 768, 1440):
                page.set_viewport_size({"width": width, "height": 800})
                assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        darkness = sum(int(part) for part in background[4:-1].split(","))
        assert (darkness < 150) == (scheme == "dark")
