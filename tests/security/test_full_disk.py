"""A disk without room: a clear answer, and nothing half-written."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from factories import Hub, Person, add_file, bearer, ndjson
from structlog.testing import capture_logs
from xet_encoder import draft_file, encode_shard, encode_xorb, xorb_hash

from gatehouse.http.errors import DISK_FULL
from gatehouse.observability.logging import LineLogger

_CONTENT = b"0123456789abcdef" * 65536


@pytest.fixture
def olivia(hub: Hub) -> Person:
    person = hub.make_user("olivia")
    hub.make_repo(person, "model")
    return person


@contextmanager
def no_file_over(num_bytes: int) -> Iterator[None]:
    """The system then refuses to let any file grow further, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_large_file_that_does_not_fit_leaves_nothing(hub: Hub, olivia: Person) -> None:
    item = {"oid": "ab" * 32, "size": len(_CONTENT)}
    batch = {"operation": "upload", "objects": [item]}
    url = "/olivia/model.git/info/lfs/objects/batch"
    answer = hub.client.post(url, json=batch, headers=olivia.write).json()
    href = answer["objects"][0]["actions"]["upload"]["href"]
    before = hub.state()
    # The log of the tests is a file too.
    with capture_logs(), no_file_over(512 * 1024):
        refused = hub.client.put(href, content=_CONTENT)
    assert refused.status_code == 507
    assert refused.json() == {"error": DISK_FULL}
    assert hub.state() == before
    blobs = hub.settings.data_dir / "blobs"
    assert [path for path in blobs.rglob("*") if path.is_file()] == []


def test_commit_that_does_not_fit_changes_nothing(hub: Hub, olivia: Person) -> None:
    before = hub.state()
    with capture_logs(), no_file_over(1024 * 1024):
        answer = hub.client.post(
            "/api/models/olivia/model/commit/main",
            content=ndjson(("header", {"summary": "add"}), add_file("a.txt", _CONTENT * 2)),
            headers=olivia.write,
        )
    assert answer.status_code == 507
    assert hub.state() == before
    assert list(hub.services.incoming.iterdir()) == []


def test_shard_whose_file_does_not_fit_says_so_in_its_stream(hub: Hub, olivia: Person) -> None:
    chunks = [b"a" * 100_000, b"b" * 100_000] * 3
    url = "/api/models/olivia/model/xet-write-token/main"
    token = hub.client.get(url, headers=olivia.write).json()
    cas = token["casUrl"].removeprefix("http://hub.test")
    headers = bearer(token["accessToken"])
    name = xorb_hash(chunks)
    body = encode_xorb(chunks)
    assert hub.client.post(f"{cas}/v1/xorbs/default/{name}", content=body, headers=headers)
    shard = encode_shard([draft_file([chunks], [(0, 0, 6)])])
    with no_file_over(400_000):
        answer = hub.client.post(f"{cas}/v2/shards", content=shard, headers=headers)
    assert json.loads(answer.text.splitlines()[-1])["message"] == DISK_FULL


def test_log_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        LineLogger(full.fileno()).error("lost")
    with (tmp_path / "log").open("w") as log:
        LineLogger(log.fileno()).error("kept \ud800")
    assert (tmp_path / "log").read_text() == "kept \\ud800\n"
