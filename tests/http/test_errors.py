"""What callers are told when something goes wrong, and what they are not told."""

import subprocess
import sys

import pytest
from factories import Hub
from starlette.types import Receive, Scope, Send

from gatehouse.http.bounded_route import MAX_JSON_BYTES
from gatehouse.http.errors import header_safe


def test_a_failure_has_a_request_id_and_says_nothing_of_its_cause(own_hub: Hub) -> None:
    @own_hub.app.get("/planted/route/fails")
    def fails() -> None:
        raise RuntimeError("the password is swordfish")

    answer = own_hub.client.get(
        "/planted/route/fails", headers={"Origin": "https://page.test", "X-Request-Id": "abc"}
    )
    assert answer.status_code == 500
    assert "swordfish" not in answer.text
    assert "log" in answer.json()["error"]
    assert answer.headers["x-request-id"] == "abc"
    assert answer.headers["access-control-allow-origin"] == "*"


def test_a_failure_after_the_answer_began_breaks_the_connection(own_hub: Hub) -> None:
    async def application(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("too late")

    own_hub.app.mount("/planted/files", application)
    with pytest.raises(RuntimeError, match="too late"):
        own_hub.client.get("/planted/files/now/it/fails")


def test_the_log_holds_no_local_variables() -> None:
    """They would be tokens and passwords."""
    program = """
from gatehouse.observability.logging import configure_logging, logger
configure_logging(as_json=False)
def handler(token):
    raise RuntimeError("broken")
try:
    handler("hf_" + "swordfish")
except RuntimeError as error:
    logger.error("request failed", exc_info=error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "broken" in done.stderr
    assert "hf_swordfish" not in done.stderr


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("one\r\nX-Injected: two", "one X-Injected: two"),
        ("tab\tand  blanks", "tab and blanks"),
        ("nul\x00bell\x07escape\x1b", "nul?bell?escape?"),
        ("ünïcode 🤗", "?n?code ?"),
        ("x" * 600, "x" * 500),
    ],
)
def test_text_in_a_header_is_one_printable_line(text: str, safe: str) -> None:
    assert header_safe(text) == safe


@pytest.mark.parametrize(
    "body", [b"{", b"not json", b"\xff\xfe", b"[]", b'"text"', b"null", b'{"name": 1}', b"{}"]
)
def test_a_body_that_is_not_right_is_400_with_a_sentence(hub: Hub, body: bytes) -> None:
    olivia = hub.make_user("olivia")
    before = hub.state()
    headers = {**olivia.write, "Content-Type": "application/json"}
    answer = hub.client.post("/api/repos/create", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert answer.headers["x-error-message"]
    assert hub.state() == before


def test_a_body_nested_a_million_deep_is_400(hub: Hub) -> None:
    olivia = hub.make_user("olivia")
    headers = {**olivia.write, "Content-Type": "application/json"}
    body = b"[" * 1_000_000
    assert hub.client.post("/api/repos/create", content=body, headers=headers).status_code == 400


@pytest.mark.parametrize("is_declared", [True, False])
def test_a_body_that_is_too_large_is_413(hub: Hub, is_declared: bool) -> None:
    chunks = (b" " * (1024 * 1024) for _ in range(20))

    headers = {"Content-Type": "application/json"}
    if is_declared:
        headers["Content-Length"] = str(MAX_JSON_BYTES + 1)
    answer = hub.client.post("/api/validate-yaml", content=chunks, headers=headers)
    assert answer.status_code == 413
    assert str(MAX_JSON_BYTES) in answer.json()["error"]


@pytest.mark.parametrize("length", [b"-1", b"1e3", b"\xb2", b"9" * 5000, b"0x10"])
def test_a_length_that_is_no_number_is_400(hub: Hub, length: bytes) -> None:
    answer = hub.client.post(
        "/api/validate-yaml", content=b"{}", headers={b"Content-Length": length}
    )
    assert answer.status_code == 400


def test_an_unknown_address_is_404_and_a_wrong_method_405(hub: Hub) -> None:
    assert hub.client.get("/api/nothing/here/at/all").status_code == 404
    assert hub.client.patch("/api/repos/create").status_code == 405


def test_a_person_gets_a_page_and_a_program_json(hub: Hub) -> None:
    page = hub.client.get("/nobody/nothing", headers={"Accept": "text/html"})
    assert page.status_code in (401, 404)
    assert page.headers["content-type"].startswith("text/html")
    data = hub.client.get("/api/models/nobody/nothing", headers={"Accept": "application/json"})
    assert data.headers["content-type"] == "application/json"
