"""What strangers send must not be taken for a log line, nor steer the terminal that shows it."""

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from factories import Hub
from structlog.testing import capture_logs


@pytest.mark.parametrize("sent", ["%1b%5b31m", "x%0a2026-01-01%20forged", "%00", "%e2%80%ae"])
def test_a_path_is_logged_as_printable_text(
    tmp_path: Path, migrated_database: Path, sent: str
) -> None:
    hub = Hub(tmp_path / "hub", migrated_database, own_app=True, access_log=True)
    with capture_logs() as logged:
        hub.client.get(f"/nowhere/{sent}")
    hub.close()
    (entry,) = logged
    assert entry["path"].startswith("/nowhere/")
    assert entry["path"].isprintable()


def test_a_client_that_leaves_while_sending_is_no_error_of_ours(hub: Hub) -> None:
    owner = hub.make_user("owner")
    hub.make_repo(owner, "model")
    messages = [{"type": "http.request", "body": b"{", "more_body": True}]

    async def receive() -> dict[str, Any]:
        return messages.pop() if messages else {"type": "http.disconnect"}

    sent: list[dict[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(dict(message))

    path = "/api/models/owner/model/commit/main"
    headers = [(b"host", b"hub.test"), (b"authorization", owner.write["Authorization"].encode())]
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "scheme": "http",
        "headers": headers,
    }
    with capture_logs() as logged:
        anyio.run(hub.app, scope, receive, send)
    assert logged == []
    assert sent[0]["status"] == 400
