"""Bad input over HTTP: the status, code and sentence of the contract, and nothing changed."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from factories import (
    Hub,
    Person,
    add_file,
    add_large_file,
    bearer,
    ndjson,
)

from gatehouse.core.ids import RepoId, RepoKind
from gatehouse.identity.permissions import Permission
from gatehouse.repos.commits import AddFile
from gatehouse.repos.repository import Gate, Repository

_API = "/api/models/olivia/model"
_HEADER = ("header", {"summary": "change"})
_PREUPLOAD = {"files": [{"path": "a", "size": 1, "sample": ""}]}


@dataclass
class Case:
    """One request, by the owner unless `headers` says otherwise, and what it must be told."""

    name: str
    method: str
    url: str
    status: int
    code: str | None = None
    says: str = ""
    json: Any = None
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    as_owner: bool = True


CASES = [
    # Credentials
    Case("unknown token", "GET", "/api/whoami-v2", 401, says="Invalid credentials",
         headers=bearer("hf_unknown"), as_owner=False),
    Case("no token", "GET", "/api/whoami-v2", 401, says="signed in", as_owner=False),
    Case("nobody creates", "POST", "/api/repos/create", 401, json={"name": "x"}, as_owner=False),
    Case("nobody deletes", "DELETE", "/api/repos/delete", 401, json={"name": "model"},
         as_owner=False),
    # Repositories, revisions, files
    Case("unknown repository", "GET", "/api/models/olivia/none", 404, "RepoNotFound", "not found"),
    Case("unknown owner", "GET", "/api/models/none/none", 404, "RepoNotFound"),
    Case("unknown repository, nobody", "GET", "/api/models/olivia/none", 401, "RepoNotFound",
         as_owner=False),
    Case("wrong kind", "GET", "/api/datasets/olivia/model", 404, "RepoNotFound"),
    Case("unknown revision", "GET", f"{_API}/revision/none", 404, "RevisionNotFound", "none"),
    Case("unknown commit", "GET", f"{_API}/revision/{'0' * 40}", 404, "RevisionNotFound"),
    Case("unknown revision, resolve", "GET", "/olivia/model/resolve/none/a.txt", 404,
         "RevisionNotFound"),
    Case("unknown file", "GET", "/olivia/model/resolve/main/none", 404, "EntryNotFound", "none"),
    Case("unknown file, raw", "GET", "/olivia/model/raw/main/none", 404, "EntryNotFound"),
    Case("a folder as a file", "GET", "/olivia/model/resolve/main/folder", 404, "EntryNotFound"),
    Case("unknown folder", "GET", f"{_API}/tree/main/none", 404, "EntryNotFound"),
    Case("a file as a folder", "GET", f"{_API}/tree/main/a.txt", 404, "EntryNotFound"),
    # Create, delete, move, settings
    Case("taken name", "POST", "/api/repos/create", 409, says="already",
         json={"name": "MODEL"}),
    Case("wrong name", "POST", "/api/repos/create", 400, says="`name`", json={"name": "a--b"}),
    Case("wrong kind of repository", "POST", "/api/repos/create", 400, says="`type`",
         json={"name": "x", "type": "bucket"}),
    Case("foreign namespace", "POST", "/api/repos/create", 403, says="mallory",
         json={"name": "x", "organization": "mallory"}),
    Case("delete nothing", "DELETE", "/api/repos/delete", 404, "RepoNotFound",
         json={"name": "none"}),
    Case("move nowhere", "POST", "/api/repos/move", 400, says="namespace/name",
         json={"fromRepo": "olivia/model", "toRepo": "nowhere"}),
    Case("move abroad", "POST", "/api/repos/move", 403,
         json={"fromRepo": "olivia/model", "toRepo": "mallory/model"}),
    Case("move to a taken name", "POST", "/api/repos/move", 409,
         json={"fromRepo": "olivia/model", "toRepo": "olivia/other"}),
    Case("wrong gate", "PUT", f"{_API}/settings", 400, says="`gated", json={"gated": "sometimes"}),
    Case("wrong visibility", "PUT", f"{_API}/settings", 400, json={"visibility": "hidden"}),
    # Cards
    Case("bad front matter", "POST", "/api/validate-yaml", 400,
         json={"content": "---\na: [\n---\n", "repoType": "model"}),
    Case("front matter that is a list", "POST", "/api/validate-yaml", 400,
         json={"content": "---\n- a\n---\n", "repoType": "model"}),
    # Preupload and commit
    Case("preupload without files", "POST", f"{_API}/preupload/main", 400, json={}),
    Case("preupload up and away", "POST", f"{_API}/preupload/main", 400, says="..",
         json={"files": [{"path": "../a", "size": 1, "sample": ""}]}),
    Case("preupload of less than nothing", "POST", f"{_API}/preupload/main", 400,
         json={"files": [{"path": "a", "size": -1, "sample": ""}]}),
    Case("preupload sample", "POST", f"{_API}/preupload/main", 400, says="base64",
         json={"files": [{"path": "a", "size": 1, "sample": "é"}]}),
    Case("preupload nowhere", "POST", f"{_API}/preupload/none", 404, "RevisionNotFound",
         json=_PREUPLOAD),
    Case("empty commit body", "POST", f"{_API}/commit/main", 400, says="Line 1", content=b""),
    Case("commit is no JSON", "POST", f"{_API}/commit/main", 400, says="Line 1",
         content=b"{nonsense"),
    Case("commit without header", "POST", f"{_API}/commit/main", 400, says="`header`",
         content=ndjson(add_file("x", b"x"))),
    Case("two headers", "POST", f"{_API}/commit/main", 400, says="`header`",
         content=ndjson(_HEADER, _HEADER)),
    Case("unknown key", "POST", f"{_API}/commit/main", 400, says="Line 2",
         content=ndjson(_HEADER, ("renameFile", {"path": "a"}))),
    Case("second line broken", "POST", f"{_API}/commit/main", 400, says="Line 3",
         content=ndjson(_HEADER, add_file("x", b"x")) + b"\xff\xfe\n"),
    Case("bad base64", "POST", f"{_API}/commit/main", 400, says="base64",
         content=ndjson(_HEADER, ("file", {"path": "x", "content": "***", "encoding": "base64"}))),
    Case("bad path", "POST", f"{_API}/commit/main", 400, says=".git",
         content=ndjson(_HEADER, add_file(".git/hooks/post-update", b"x"))),
    Case("commit nowhere", "POST", f"{_API}/commit/none", 404, "RevisionNotFound",
         content=ndjson(_HEADER, add_file("x", b"x"))),
    Case("parent moved", "POST", f"{_API}/commit/main", 412, says="since",
         content=ndjson(("header", {"summary": "x", "parentCommit": "1" * 40}),
                        add_file("x", b"x"))),
    Case("delete what is absent", "POST", f"{_API}/commit/main", 404, "EntryNotFound",
         "A file with this name doesn't exist",
         content=ndjson(_HEADER, ("deletedFile", {"path": "none"}))),
    Case("object never uploaded", "POST", f"{_API}/commit/main", 400, says="not uploaded",
         content=ndjson(_HEADER, add_large_file("w.bin", "0" * 64, 3))),
    Case("object id that is none", "POST", f"{_API}/commit/main", 400, says="SHA-256",
         content=ndjson(_HEADER, add_large_file("w.bin", "../../x", 3))),
    Case("pull request", "POST", f"{_API}/commit/main?create_pr=1", 501, "NotImplemented",
         content=ndjson(_HEADER, add_file("x", b"x"))),
    # Gate
    Case("list without a gate", "GET", f"{_API}/user-access-request/pending", 400, says="gated"),
    Case("list of no status", "GET", "/api/models/olivia/gated/user-access-request/x", 400),
    Case("accept nobody", "POST", "/api/models/olivia/gated/user-access-request/handle", 404,
         json={"user": "nobody", "status": "accepted"}),
    Case("accept who never asked", "POST",
         "/api/models/olivia/gated/user-access-request/handle", 404,
         json={"user": "mallory", "status": "accepted"}),
    Case("decide about no one", "POST",
         "/api/models/olivia/gated/user-access-request/handle", 400, says="`user`",
         json={"status": "accepted"}),
    Case("a number that is none", "POST",
         "/api/models/olivia/gated/user-access-request/handle", 400, says="requestId",
         json={"requestId": "\u00b2", "status": "accepted"}),
    Case("a number past all numbers", "POST",
         "/api/models/olivia/gated/user-access-request/handle", 400, says="requestId",
         json={"requestId": 10**30, "status": "accepted"}),
    Case("half a character", "POST", "/api/models/olivia/gated/user-access-request/grant", 400,
         content=b'{"user": "\\ud800"}', headers={"Content-Type": "application/json"}),
    Case("grant to nobody", "POST", "/api/models/olivia/gated/user-access-request/grant", 404,
         json={"user": "nobody"}),
    # LFS
    Case("LFS operation", "POST", "/olivia/model.git/info/lfs/objects/batch", 400,
         json={"operation": "steal", "objects": []}),
    Case("LFS hash", "POST", "/olivia/model.git/info/lfs/objects/batch", 400,
         json={"operation": "upload", "objects": [], "hash_algo": "md5"}),
    Case("LFS verify of nothing", "POST", "/olivia/model.git/info/lfs/verify", 404,
         json={"oid": "0" * 64, "size": 1}),
    Case("LFS without a capability", "PUT", f"/lfs/objects/{'0' * 64}", 401, content=b"x"),
    Case("LFS with a forged capability", "GET", f"/lfs/objects/{'0' * 64}?capability=forged", 401),
    # Xet
    Case("Xet with an access token", "POST", f"/xet/g-1/v1/xorbs/default/{'0' * 64}", 401,
         content=b"x"),
    Case("Xet token for no branch", "GET", f"{_API}/xet-write-token/none", 404,
         "RevisionNotFound"),
    Case("Xet read token for no branch", "GET", f"{_API}/xet-read-token/none", 404,
         "RevisionNotFound"),
    Case("Xet reconstruction with an access token", "GET",
         f"/xet/g-1/v2/reconstructions/{'0' * 64}", 401),
    Case("Xet data without a capability", "GET", f"/xet/g-1/data/{'0' * 64}", 403),
]  # fmt: skip


@pytest.fixture
def olivia(hub: Hub) -> Person:
    olivia = hub.make_user("olivia")
    hub.make_user("mallory")
    hub.make_repo(olivia, "model", files={"a.txt": b"a", "folder/b.txt": b"b"})
    hub.make_repo(olivia, "other")
    hub.make_repo(olivia, "gated", gate=Gate.MANUAL)
    return olivia


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_bad_input_is_told_so_and_changes_nothing(hub: Hub, olivia: Person, case: Case) -> None:
    before = hub.state()
    credential = olivia.write if case.as_owner else {}
    answer = hub.client.request(
        case.method,
        case.url,
        json=case.json,
        content=case.content,
        headers={**credential, **case.headers},
    )
    assert answer.status_code == case.status, answer.text
    assert answer.headers.get("x-error-code") == case.code
    text = answer.text
    assert case.says in text
    assert "Traceback" not in text
    assert str(hub.settings.data_dir) not in text
    assert "x-request-id" in answer.headers
    assert hub.state() == before


def test_an_absent_file_names_the_commit_so_that_clients_remember_it(
    hub: Hub, olivia: Person
) -> None:
    head = hub.client.get(_API, headers=olivia.read).json()["sha"]
    answer = hub.client.head("/olivia/model/resolve/main/none")
    assert answer.headers["x-repo-commit"] == head


def test_a_taken_name_comes_with_the_address_of_who_has_it(hub: Hub, olivia: Person) -> None:
    answer = hub.client.post("/api/repos/create", json={"name": "Model"}, headers=olivia.write)
    assert answer.status_code == 409
    assert answer.json()["url"] == "http://hub.test/olivia/model"


def test_bad_front_matter_is_told_as_errors_in_json(hub: Hub) -> None:
    bad = hub.client.post("/api/validate-yaml", json={"content": "---\na: [\n---\n"})
    assert bad.status_code == 400
    assert bad.json()["errors"][0]["message"]
    good = hub.client.post("/api/validate-yaml", json={"content": "---\nlicense: mit\n---\n"})
    assert good.status_code == 200
    assert good.json()["errors"] == []


def test_a_commit_body_over_the_limit_is_413(hub: Hub, olivia: Person) -> None:
    limited = hub.settings.max_commit_body_bytes
    answer = hub.client.post(
        f"{_API}/commit/main",
        content=b"x",
        headers={**olivia.write, "Content-Length": str(limited + 1)},
    )
    assert answer.status_code == 413
    assert str(limited) in answer.json()["error"]


def test_a_regular_file_over_the_limit_is_413(hub: Hub, olivia: Person) -> None:
    before = hub.state()
    content = b"\0" * (hub.settings.max_regular_file_bytes + 1)
    answer = hub.client.post(
        f"{_API}/commit/main",
        content=ndjson(_HEADER, add_file("small", b"x"), add_file("big", content)),
        headers=olivia.write,
    )
    assert answer.status_code == 413
    assert "LFS or Xet" in answer.json()["error"]
    assert hub.state() == before


def test_a_read_token_may_not_write_and_is_told_why(hub: Hub, olivia: Person) -> None:
    before = hub.state()
    for method, url, body in (
        ("POST", f"{_API}/commit/main", ndjson(_HEADER, add_file("x", b"x"))),
        ("PUT", f"{_API}/settings", b'{"gated": "auto"}'),
        ("DELETE", "/api/repos/delete", b'{"name": "model"}'),
        ("POST", "/api/repos/create", b'{"name": "new"}'),
        ("GET", f"{_API}/xet-write-token/main", b""),
        ("GET", "/olivia/model.git/info/refs?service=git-receive-pack", b""),
    ):
        headers = {**olivia.read, "Content-Type": "application/json"}
        answer = hub.client.request(method, url, content=body, headers=headers)
        assert answer.status_code == 403, url
        assert "write" in answer.headers["x-error-message"]
    assert hub.state() == before


def test_a_stale_parent_is_412_and_the_right_one_is_taken(hub: Hub, olivia: Person) -> None:
    seen = hub.client.get(_API, headers=olivia.read).json()["sha"]
    repository = _model(hub, olivia)
    head = hub.commit(olivia, repository, [AddFile("between.txt", b"x")])
    for parent, status in ((seen, 412), (head, 200)):
        header = ("header", {"summary": "x", "parentCommit": parent})
        answer = hub.client.post(
            f"{_API}/commit/main",
            content=ndjson(header, add_file("x", b"x")),
            headers=olivia.write,
        )
        assert answer.status_code == status
    assert hub.head(repository) == answer.json()["commitOid"]


def _model(hub: Hub, olivia: Person) -> Repository:
    repo_id = RepoId("olivia", "model")
    permission = Permission.REPO_CONTENT
    return hub.services.repositories.require(olivia.actor, RepoKind.MODEL, repo_id, permission)
