"""What strangers send must not be taken for a log line, nor steer the terminal that shows it."""

import pytest
from factories import Hub
from structlog.testing import capture_logs


@pytest.mark.parametrize("sent", ["%1b%5b31m", "x%0a2026-01-01%20forged", "%00", "%e2%80%ae"])
def test_a_path_is_logged_as_printable_text(hub: Hub, sent: str) -> None:
    owner = hub.make_user("owner")
    hub.make_repo(owner, "model")
    path = f"/models/owner/model/pipeline/{sent}"
    with capture_logs() as logged:
        assert hub.client.post(path, headers=owner.write).status_code == 501
    (entry,) = logged
    assert entry["path"].startswith("/models/owner/model/pipeline/")
    assert entry["path"].isprintable()
