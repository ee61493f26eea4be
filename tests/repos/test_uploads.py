"""Before an upload: which files go as large files, which are ignored, and what is there already."""

import base64
from typing import Any

import pytest
from factories import Hub, Person, sha256_of

_URL = "/api/models/olivia/model/preupload/main"


@pytest.fixture
def olivia(hub: Hub) -> Person:
    olivia = hub.make_user("olivia")
    hub.make_repo(olivia, "model", files={"a.txt": b"a"}, large_files={"w.safetensors": b"weights"})
    return olivia


def plan(hub: Hub, olivia: Person, *files: tuple[str, int, bytes], **extra: Any) -> dict[str, Any]:
    announced = [
        {"path": path, "size": size, "sample": base64.b64encode(sample).decode()}
        for path, size, sample in files
    ]
    answer = hub.client.post(_URL, json={"files": announced, **extra}, headers=olivia.write)
    assert answer.status_code == 200, answer.text
    return {item["path"]: item for item in answer.json()["files"]}


@pytest.mark.parametrize(
    ("path", "size", "sample", "mode"),
    [
        ("a.txt", 10, b"text", "regular"),
        ("a.safetensors", 10, b"text", "lfs"),
        ("a.safetensors", 0, b"", "regular"),
        ("a.unknown", 2_000_000, b"\0\1", "lfs"),
        ("a.unknown", 2_000_000, b"text", "regular"),
        ("a.unknown", 100, b"\0\1", "regular"),
        ("a.txt", 11_000_000, b"text", "lfs"),
        (".gitattributes", 10, b"text", "regular"),
    ],
)
def test_a_file_goes_the_way_its_name_size_and_first_bytes_ask_for(
    hub: Hub, olivia: Person, path: str, size: int, sample: bytes, mode: str
) -> None:
    assert plan(hub, olivia, (path, size, sample))[path]["uploadMode"] == mode


def test_what_is_there_is_named_as_the_client_would_name_its_own(hub: Hub, olivia: Person) -> None:
    planned = plan(hub, olivia, ("a.txt", 1, b"a"), ("w.safetensors", 7, b""), ("new", 1, b"x"))
    assert len(planned["a.txt"]["oid"]) == 40
    assert planned["w.safetensors"]["oid"] == sha256_of(b"weights")
    assert "oid" not in planned["new"]


def test_every_answer_says_whether_the_file_is_ignored(hub: Hub, olivia: Person) -> None:
    rules = "*.log\n!keep.log\ncache/\n"
    files = [("a.log", 1, b""), ("keep.log", 1, b""), ("cache/x", 1, b""), ("a", 1, b"")]
    planned = plan(hub, olivia, *files, gitIgnore=rules)
    ignored = {path for path, item in planned.items() if item["shouldIgnore"]}
    assert ignored == {"a.log", "cache/x"}
    assert not any(item["shouldIgnore"] for item in plan(hub, olivia, *files).values())


def test_attributes_that_are_sent_count_instead_of_those_in_the_repository(
    hub: Hub, olivia: Person
) -> None:
    files = [("a.safetensors", 10, b""), ("a.mine", 10, b"")]
    planned = plan(hub, olivia, *files, gitAttributes="*.mine filter=lfs\n")
    assert planned["a.safetensors"]["uploadMode"] == "regular"
    assert planned["a.mine"]["uploadMode"] == "lfs"
