"""`hf auth login` both ways, and what the client makes of refusals, with the stock `hf` program."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from configparser import ConfigParser
from pathlib import Path

import httpx
import pytest
from hub_server import HubServer, Person, csrf_token
from stock_client import StockClient

_HF = Path(sys.executable).with_name("hf")
NewClient = Callable[..., StockClient]
_USER_CODE = re.compile(r"enter the code: ([A-Z]{4}-[A-Z]{4})")


def _decide(browser: httpx.Client, user_code: str, decision: str) -> None:
    page = browser.get("/device", params={"user_code": user_code})
    assert user_code in page.text
    form = {"user_code": user_code, "decision": decision, "csrf_token": csrf_token(page)}
    assert browser.post("/device", data=form).status_code == 303


def _start_login(client: StockClient) -> tuple["subprocess.Popen[str]", str]:
    """Start `hf auth login` without a terminal; returns it and the code it shows."""
    client.home.mkdir(parents=True, exist_ok=True)
    login = subprocess.Popen(
        [_HF, "auth", "login"],
        env={**client.variables, "PYTHONUNBUFFERED": "1"},
        cwd=client.home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert login.stdout is not None
    shown = ""
    for line in login.stdout:
        shown += line
        found = _USER_CODE.search(shown)
        if found is not None:
            return login, found[1]
    raise AssertionError(f"no code was shown:\n{shown}")


def _stored(client: StockClient) -> ConfigParser:
    stored = ConfigParser(interpolation=None)
    stored.read(client.home / "huggingface" / "stored_tokens")
    return stored


def test_login_with_a_token_remembers_it_under_its_name(
    alice: Person, new_client: NewClient
) -> None:
    client = new_client()
    shown = client.run(_HF, "auth", "login", "--token", alice.write_token)
    assert "permission: write" in shown.stdout + shown.stderr
    assert _stored(client).sections() == ["writing"]
    assert alice.name in client.check(_HF, "auth", "whoami")


@pytest.mark.parametrize("token", ["hf_nonsense", "hf_" + "a" * 36])
def test_login_with_a_bad_token_is_refused_and_forgotten(new_client: NewClient, token: str) -> None:
    client = new_client()
    outcome = client.run(_HF, "auth", "login", "--token", token)
    assert outcome.returncode != 0
    assert "Invalid user token" in outcome.stdout + outcome.stderr
    assert _stored(client).sections() == []


def test_login_in_the_browser_ends_with_a_working_token_that_renews_itself(
    server: HubServer, alice: Person, new_client: NewClient
) -> None:
    client = new_client()
    login, user_code = _start_login(client)
    with alice.browser() as browser:
        _decide(browser, user_code, "approve")
    output, _ = login.communicate(timeout=60)
    assert login.returncode == 0, output
    assert alice.name in client.check(_HF, "auth", "whoami")

    stored = _stored(client)
    name = f"oauth-{alice.name}"
    assert stored.sections() == [name]
    old = stored[name]["hf_token"]
    stored[name]["expires_at"] = str(int(time.time()) + 60)
    with (client.home / "huggingface" / "stored_tokens").open("w") as file:
        stored.write(file)
    assert alice.name in client.check(_HF, "auth", "whoami")
    assert _stored(client)[name]["hf_token"] != old
    headers = {"Authorization": f"Bearer {old}"}
    assert httpx.get(f"{server.url}/api/whoami-v2", headers=headers).status_code == 401


def test_login_refused_in_the_browser_ends_with_an_error(
    alice: Person, new_client: NewClient
) -> None:
    client = new_client()
    login, user_code = _start_login(client)
    with alice.browser() as browser:
        _decide(browser, user_code, "deny")
    output, _ = login.communicate(timeout=60)
    assert login.returncode != 0
    assert "denied" in output
    assert _stored(client).sections() == []


def test_login_function_and_whoami_from_python(server: HubServer, new_client: NewClient) -> None:
    # Somebody of their own: other tests let alice join organizations.
    person = server.person("logs-in-from-python")
    who = new_client().python(
        """
        import json, sys
        from huggingface_hub import get_token, login, whoami
        login(token=sys.argv[1])
        assert get_token() == sys.argv[1]
        who = whoami()
        role = who["auth"]["accessToken"]["role"]
        print(json.dumps([who["name"], who["type"], who["orgs"], role]))
        """,
        person.read_token,
    )
    assert who == [person.name, "user", [], "read"]
