"""The body of a commit is foreign bytes: it is taken whole, or refused and nothing is changed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from factories import Hub, add_file, ndjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

_URL = "/api/models/olivia/model/commit/main"
_quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
_paths = st.one_of(
    st.sampled_from(
        [
            "a",
            "a/b",
            "../a",
            "/a",
            "a//b",
            ".git/x",
            "",
            "a\0",
            "é",
            "a/",
            ".gitattributes",
            "\ud800",
        ]
    ),
    st.text(max_size=12),
)
_fields = {
    "path": _paths,
    "content": st.one_of(st.sampled_from(["", "eA==", "***"]), st.text(max_size=8)),
    "encoding": st.sampled_from(["base64", "utf-8", "latin-1"]),
    "oid": st.sampled_from(["0" * 64, "x", "../x"]),
    "algo": st.sampled_from(["sha256", "md5"]),
    "size": st.one_of(st.none(), st.integers()),
    "summary": st.text(max_size=8),
    "description": st.text(max_size=8),
    "parentCommit": st.one_of(st.none(), st.text(max_size=8)),
}
_values = st.one_of(st.fixed_dictionaries({}, optional=_fields), _json)
_keys = st.sampled_from(["header", "file", "lfsFile", "deletedFile", "deletedFolder", "other"])
_lines = st.fixed_dictionaries({"key": _keys, "value": _values}).map(json.dumps).map(str.encode)
_HEADER = ndjson(("header", {"summary": "change"})).strip()
_bodies = st.one_of(
    st.binary(max_size=200),
    st.lists(_lines, max_size=4).map(b"\n".join),
    st.lists(_lines, max_size=4).map(lambda lines: b"\n".join([_HEADER, *lines])),
)


@pytest.fixture(scope="module")
def hub(
    tmp_path_factory: pytest.TempPathFactory, migrated_database: Path
) -> Iterator[tuple[Hub, dict[str, str]]]:
    hub = Hub(tmp_path_factory.mktemp("hub") / "hub", migrated_database)
    olivia = hub.make_user("olivia")
    hub.make_repo(olivia, "model", files={"a": b"a"})
    yield hub, olivia.write
    hub.close()


@_quick
@given(body=_bodies)
def test_any_body_is_committed_or_changes_nothing(
    hub: tuple[Hub, dict[str, str]], body: bytes
) -> None:
    house, headers = hub
    before = house.state()
    answer = house.client.post(_URL, content=body, headers=headers)
    assert answer.status_code == 200 or 400 <= answer.status_code < 500, answer.text
    if answer.status_code != 200:
        assert answer.json()["error"]
        assert house.state() == before


@settings(_quick, max_examples=20)
@given(
    files=st.dictionaries(
        st.text("abc", min_size=1, max_size=5).map("dir/{}".format), st.binary(max_size=50)
    )
)
def test_what_is_committed_is_read_back(
    hub: tuple[Hub, dict[str, str]], files: dict[str, bytes]
) -> None:
    house, headers = hub
    lines: list[tuple[str, dict[str, Any]]] = [("header", {"summary": "change"})]
    lines += [add_file(path, content) for path, content in files.items()]
    answer = house.client.post(_URL, content=ndjson(*lines), headers=headers)
    assert answer.status_code == 200, answer.text
    commit_oid = answer.json()["commitOid"]
    for path, content in files.items():
        read = house.client.get(f"/olivia/model/resolve/{commit_oid}/{path}")
        assert read.content == content
