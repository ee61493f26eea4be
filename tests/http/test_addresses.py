"""How revisions, paths and moved names are read from addresses, encoded or not."""

import asyncio
from typing import Any

import pytest
from factories import Hub, segment

from gatehouse.core.ids import RepoId, RepoKind
from gatehouse.http.addresses import split_revision


def ask_raw(hub: Hub, raw_path: bytes, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """A request whose path is exactly these bytes; clients would tidy it up."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": raw_path.decode("latin-1"),
        "raw_path": raw_path,
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"hub.test")],
        "client": ("127.0.0.1", 1),
        "server": ("hub.test", 80),
        "state": {},
    }
    asyncio.run(hub.app(scope, receive, send))
    headers = {name.decode().lower(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], headers, body


@pytest.mark.parametrize(
    ("rest", "revision", "path"),
    [
        ("main/a/b.txt", "main", "a/b.txt"),
        ("main", "main", ""),
        ("main/", "main", ""),
        ("refs%2Fpr%2F3/a/b", "refs/pr/3", "a/b"),
        ("refs/pr/3/a/b", "refs/pr/3", "a/b"),
        ("refs/pr/3", "refs/pr/3", ""),
        ("refs/convert/parquet/a", "refs/convert/parquet", "a"),
        ("refs/heads/main/a", "refs/heads/main", "a"),
        ("feature%2Fx/a%2Fb", "feature/x", "a/b"),
        ("main/100%25.txt", "main", "100%.txt"),
        ("main/%252F", "main", "%2F"),
        ("refs/main/a", "refs", "main/a"),
        ("", "", ""),
    ],
)
def test_a_revision_and_a_path_are_split(rest: str, revision: str, path: str) -> None:
    assert split_revision(rest) == (revision, path)


_PATHS = [
    "plain.txt",
    "folder/plain.txt",
    "with space.txt",
    "100%.txt",
    "a%2Fb.txt",
    "%41.txt",
    "plus+and&=?.txt",
    "#hash;semi.txt",
    "ünïcödé/文件.txt",
    "emoji 🤗.txt",
    "dots..in.name",
]


def test_every_path_and_revision_is_reached_as_clients_write_it(hub: Hub) -> None:
    olivia = hub.make_user("olivia")
    repository = hub.make_repo(olivia, "model", files={path: path.encode() for path in _PATHS})
    git = hub.services.repositories.git(repository)
    for ref in ("refs/heads/feature/x", "refs/pr/3", "refs/heads/ünï"):
        git.update_ref(ref, hub.head(repository), None)
    revisions = ["main", "HEAD", "feature/x", "refs/pr/3", "ünï", "refs/heads/feature/x"]
    for path in _PATHS:
        for revision in revisions:
            # Python encodes slashes in revisions only; JavaScript encodes them in paths as well.
            for quoted in ("/".join(map(segment, path.split("/"))), segment(path)):
                answer = hub.client.get(f"/olivia/model/resolve/{segment(revision)}/{quoted}")
                assert (answer.status_code, answer.text) == (200, path)
    answer = hub.client.get("/olivia/model/resolve/refs/pr/3/folder/plain.txt")
    assert answer.text == "folder/plain.txt"
    tree = hub.client.get("/api/models/olivia/model/tree/refs/pr/3/folder")
    assert [item["path"] for item in tree.json()] == ["folder/plain.txt"]
    encoded = hub.client.get("/api/models/olivia/model/tree/refs%2Fpr%2F3/folder")
    assert encoded.json() == tree.json()
    info = hub.client.get("/api/models/olivia/model/revision/feature%2Fx")
    assert info.json()["sha"] == hub.head(repository)


@pytest.mark.parametrize(
    "path",
    [
        b"..%2f..%2f..%2fetc%2fpasswd",
        b"%2e%2e/%2e%2e/config",
        b"../../config",
        b"a/../plain.txt",
        b"./plain.txt",
        b"/plain.txt",
        b"plain.txt/",
        b"plain.txt%00",
        b"%00plain.txt",
        b"%ff%fe",
        b"%",
        b"%zz",
        b"%%32%46",
        b"%252e%252e%252fconfig",
        b"",
        b"\\..\\config",
        b".git/config",
        b"folder",
    ],
)
@pytest.mark.parametrize("route", [b"resolve", b"raw"])
def test_what_is_no_file_is_404_and_not_a_failure(hub: Hub, path: bytes, route: bytes) -> None:
    hub.make_repo(
        hub.make_user("olivia"), "model", files={"plain.txt": b"x", "folder/file.txt": b"y"}
    )
    status, headers, body = ask_raw(hub, b"/olivia/model/" + route + b"/main/" + path)
    assert status == 404
    assert headers["x-error-code"] == "EntryNotFound"
    assert headers["x-error-message"].isprintable()
    assert b"root" not in body


@pytest.mark.parametrize("revision", [b"%00", b"%0d%0aX-Injected:%201", b"a..b", b"%1b[31m", b"-"])
def test_a_strange_revision_is_404_with_a_clean_header(hub: Hub, revision: bytes) -> None:
    hub.make_repo(hub.make_user("olivia"), "model")
    for address in (b"/olivia/model/resolve/%s/a", b"/api/models/olivia/model/revision/%s"):
        status, headers, _ = ask_raw(hub, address % revision)
        assert status == 404
        assert all(value.isprintable() and value.isascii() for value in headers.values())
        assert "x-injected" not in headers


def test_an_escape_is_undone_once(hub: Hub) -> None:
    """`%%34%31` is a stray sign and `41`, not an escaped `A`."""
    hub.make_repo(hub.make_user("olivia"), "model", files={"A": b"other", "%41": b"right"})
    assert ask_raw(hub, b"/olivia/model/resolve/main/%2541")[2] == b"right"
    assert ask_raw(hub, b"/olivia/model/resolve/main/%%34%31")[2] == b"right"
    assert ask_raw(hub, b"/olivia/model/resolve/main/%41")[2] == b"other"


def _move(hub: Hub) -> None:
    olivia = hub.make_user("olivia")
    repository = hub.make_repo(olivia, "old", files={"a b.txt": b"x"})
    hub.services.repositories.move(olivia.actor, repository, RepoId("olivia", "new"))


@pytest.mark.parametrize(
    ("asked", "location"),
    [
        ("/api/models/olivia/old?blobs=true", "/api/models/olivia/new?blobs=true"),
        ("/olivia/old/resolve/main/a%20b.txt", "/olivia/new/resolve/main/a%20b.txt"),
        ("/OLIVIA/Old/resolve/main/a", "/olivia/new/resolve/main/a"),
        ("/api/models/olivia/old/tree/refs%2Fpr%2F1/olivia/old", None),
        (
            "/olivia/old.git/info/refs?service=git-upload-pack",
            "/olivia/new.git/info/refs?service=git-upload-pack",
        ),
    ],
)
def test_an_old_name_redirects_with_the_rest_of_the_address(
    hub: Hub, asked: str, location: str | None
) -> None:
    _move(hub)
    answer = hub.client.get(asked)
    assert answer.status_code == 307
    expected = location or asked.replace("models/olivia/old", "models/olivia/new")
    assert answer.headers["location"] == f"http://hub.test{expected}"


def test_an_old_name_that_is_encoded_does_not_redirect_to_itself(hub: Hub) -> None:
    _move(hub)
    status, headers, _ = ask_raw(hub, b"/%6flivia/o%6Cd/resolve/main/a")
    assert status == 307
    assert headers["location"] == "http://hub.test/olivia/new/resolve/main/a"


def test_an_old_name_in_a_body_is_named_and_not_redirected(hub: Hub) -> None:
    """The same address and body would come back for ever."""
    olivia = hub.make_user("olivia")
    repository = hub.make_repo(olivia, "old")
    hub.services.repositories.move(olivia.actor, repository, RepoId("olivia", "new"))
    before = hub.state()
    for method, address, body in (
        ("DELETE", "/api/repos/delete", {"name": "old", "organization": "olivia"}),
        ("POST", "/api/repos/move", {"fromRepo": "olivia/old", "toRepo": "olivia/x"}),
    ):
        answer = hub.client.request(method, address, json=body, headers=olivia.write)
        assert answer.status_code == 404
        assert answer.headers["x-error-code"] == "RepoNotFound"
        assert "olivia/new" in answer.json()["error"]
    assert hub.state() == before


def test_a_redirect_ends_when_the_old_name_is_taken_again(hub: Hub) -> None:
    olivia = hub.make_user("olivia")
    repository = hub.make_repo(olivia, "old", kind=RepoKind.DATASET)
    hub.services.repositories.move(olivia.actor, repository, RepoId("olivia", "new"))
    assert hub.client.get("/api/datasets/olivia/old").status_code == 307
    hub.make_repo(olivia, "old", kind=RepoKind.DATASET)
    assert hub.client.get("/api/datasets/olivia/old").status_code == 200


@pytest.mark.parametrize("host", ["evil.test/x", "a b", "", "hub.test:99999999", "a@b"])
def test_a_host_that_is_none_is_refused(hub: Hub, host: str) -> None:
    olivia = hub.make_user("olivia")
    answer = hub.client.post(
        "/api/repos/create", json={"name": "m"}, headers={**olivia.write, "Host": host}
    )
    assert answer.status_code == 400


def test_a_name_that_only_folds_to_a_real_one_is_not_it(hub: Hub) -> None:
    hub.make_repo(hub.make_user("simon"), "secret")
    assert hub.client.get("/api/models/simon/secret").status_code == 200
    assert hub.client.get("/api/models/\u017fimon/\u017fecret").status_code == 404
