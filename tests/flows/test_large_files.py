"""Large files over HTTP, by LFS and by Xet: who may upload, name and download which bytes."""

import json
from typing import Any

import pytest
from factories import Hub, Person, add_large_file, bearer, ndjson, sha256_of
from xet_encoder import draft_file, encode_shard, encode_xorb, xorb_hash

from gatehouse.identity.capabilities import Purpose
from gatehouse.repos.repository import Gate, Repository

_CONTENT = b"secret weights" * 100
_OID = sha256_of(_CONTENT)
_CHUNKS = (b"first chunk " * 50, b"second chunk " * 50)
_XORB = xorb_hash(_CHUNKS)


def batch(
    hub: Hub, who: dict[str, str], repo: str, operation: str, oid: str = _OID, size: int = 0
) -> Any:
    body = {
        "operation": operation,
        "transfers": ["basic"],
        "objects": [{"oid": oid, "size": size or len(_CONTENT)}],
    }
    media_type = "application/vnd.git-lfs+json"
    headers = {**who, "Content-Type": media_type, "Accept": media_type}
    return hub.client.post(
        f"/{repo}.git/info/lfs/objects/batch", content=json.dumps(body), headers=headers
    )


def action(answer: Any, name: str) -> dict[str, Any] | None:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] | None = answer.json()["objects"][0].get("actions", {}).get(name)
    return found


def commit(hub: Hub, who: dict[str, str], repo: str, oid: str, size: int) -> int:
    lines = ndjson(("header", {"summary": "x"}), add_large_file("w.safetensors", oid, size))
    url = f"/api/models/{repo}/commit/main"
    return hub.client.post(url, content=lines, headers=who).status_code


def test_an_object_is_uploaded_verified_committed_and_downloaded(hub: Hub, olivia: Person) -> None:
    hub.make_repo(olivia, "model")
    answer = batch(hub, olivia.write, "olivia/model", "upload")
    upload, verify = action(answer, "upload"), action(answer, "verify")
    assert upload
    assert verify
    # Clients send no token to these addresses.
    assert hub.client.put(upload["href"], content=_CONTENT).status_code == 200
    proof = {"oid": _OID, "size": len(_CONTENT)}
    assert hub.client.post(verify["href"], json=proof, headers=olivia.write).status_code == 200
    assert commit(hub, olivia.write, "olivia/model", _OID, len(_CONTENT)) == 200
    assert hub.client.get("/olivia/model/resolve/main/w.safetensors").content == _CONTENT
    # What is there is not sent again.
    assert action(batch(hub, olivia.write, "olivia/model", "upload"), "upload") is None
    download = action(batch(hub, {}, "olivia/model", "download"), "download")
    assert download
    assert hub.client.get(download["href"]).content == _CONTENT
    part = hub.client.get(download["href"], headers={"Range": "bytes=5-9"})
    assert (part.status_code, part.content) == (206, _CONTENT[5:10])


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"x" * len(_CONTENT), 400),
        (_CONTENT[:-1], 400),
        (_CONTENT + b"x", 400),
        (b"", 400),
    ],
)
def test_bytes_that_are_not_the_announced_ones_are_refused(
    hub: Hub, olivia: Person, sent: bytes, status: int
) -> None:
    repository = hub.make_repo(olivia, "model")
    upload = action(batch(hub, olivia.write, "olivia/model", "upload"), "upload")
    assert upload
    before = hub.state()
    assert hub.client.put(upload["href"], content=sent).status_code == status
    chunked = hub.client.put(upload["href"], content=iter([sent]))
    assert chunked.status_code in (400, 413)
    assert hub.state() == before
    assert hub.services.large_files.size(repository, _OID) is None
    assert hub.services.blobs.size(_OID) is None
    assert commit(hub, olivia.write, "olivia/model", _OID, len(_CONTENT)) == 400
    # The same address takes the right bytes afterwards.
    assert hub.client.put(upload["href"], content=_CONTENT).status_code == 200


def test_a_capability_opens_one_object_in_one_direction_for_a_while(
    hub: Hub, olivia: Person
) -> None:
    hub.make_repo(olivia, "model")
    upload = action(batch(hub, olivia.write, "olivia/model", "upload"), "upload")
    assert upload
    href: str = upload["href"]
    assert hub.client.get(href).status_code == 401
    assert hub.client.put(href.replace(_OID, "0" * 64), content=b"x").status_code == 400
    assert hub.client.put(href[:-3] + "abc", content=_CONTENT).status_code == 401
    hub.clock.advance(7 * 3600)
    assert hub.client.put(href, content=_CONTENT).status_code == 401


def test_a_capability_ends_with_the_right_it_stood_for(
    hub: Hub, olivia: Person, mallory: Person
) -> None:
    gated = hub.make_repo(
        olivia, "gated", gate=Gate.MANUAL, large_files={"w.safetensors": _CONTENT}
    )
    hub.accept(olivia, gated, mallory)
    download = action(batch(hub, mallory.read, "olivia/gated", "download"), "download")
    assert download
    assert hub.client.get(download["href"]).content == _CONTENT
    handle = "/api/models/olivia/gated/user-access-request/handle"
    cancel = {"user": "mallory", "status": "pending"}
    assert hub.client.post(handle, json=cancel, headers=olivia.write).status_code == 200
    answer = hub.client.get(download["href"])
    assert answer.status_code == 403
    assert _CONTENT[:14] not in answer.content


def test_lfs_gives_a_foreign_object_to_nobody_who_knows_its_hash(
    hub: Hub, olivia: Person, mallory: Person
) -> None:
    hub.make_repo(olivia, "secret", private=True, large_files={"w.safetensors": _CONTENT})
    hub.make_repo(mallory, "mine")
    assert batch(hub, mallory.write, "olivia/secret", "download").status_code == 404
    assert batch(hub, {}, "olivia/secret", "download").status_code == 401
    own = batch(hub, mallory.write, "mallory/mine", "download").json()["objects"][0]
    assert own["error"]["code"] == 404
    assert "actions" not in own
    # An upload has to bring the bytes, although the store has them.
    assert action(batch(hub, mallory.write, "mallory/mine", "upload"), "upload")
    assert commit(hub, mallory.write, "mallory/mine", _OID, len(_CONTENT)) == 400
    assert hub.client.get("/mallory/mine/resolve/main/w.safetensors").status_code == 404


def test_an_object_that_can_be_read_elsewhere_needs_no_upload(
    hub: Hub, olivia: Person, mallory: Person
) -> None:
    hub.make_repo(olivia, "open", large_files={"w.safetensors": _CONTENT})
    hub.make_repo(mallory, "mine")
    assert action(batch(hub, mallory.write, "mallory/mine", "upload"), "upload") is None
    assert commit(hub, mallory.write, "mallory/mine", _OID, len(_CONTENT)) == 200


def test_a_stranger_cannot_upload_even_to_an_open_repository(
    hub: Hub, olivia: Person, mallory: Person
) -> None:
    hub.make_repo(olivia, "open")
    assert batch(hub, mallory.write, "olivia/open", "upload").status_code == 403
    assert batch(hub, olivia.read, "olivia/open", "upload").status_code == 403
    assert batch(hub, {}, "olivia/open", "upload").status_code == 401


@pytest.mark.parametrize("oid", ["", "x", "A" * 64, "../" * 20, "0" * 63])
def test_an_object_id_that_is_none_is_told_for_that_object(
    hub: Hub, olivia: Person, oid: str
) -> None:
    hub.make_repo(olivia, "model")
    answer = batch(hub, olivia.write, "olivia/model", "upload", oid=oid)
    assert answer.json()["objects"][0]["error"]["code"] == 422


def test_an_object_over_the_limit_is_told_so(hub: Hub, olivia: Person) -> None:
    hub.make_repo(olivia, "model")
    answer = batch(hub, olivia.write, "olivia/model", "upload", size=10**15)
    assert answer.json()["objects"][0]["error"]["code"] == 413


def xet_token(hub: Hub, person: Person, repo: str) -> tuple[str, dict[str, str]]:
    """The CAS address below the hub, and the header for it."""
    url = f"/api/models/{repo}/xet-write-token/main"
    answer = hub.client.get(url, headers=person.write)
    assert answer.headers["x-xet-access-token"] == answer.json()["accessToken"]
    cas = answer.json()["casUrl"].removeprefix("http://hub.test")
    return cas, bearer(answer.json()["accessToken"])


def put_xorb(hub: Hub, token: tuple[str, dict[str, str]], body: bytes, name: str = _XORB) -> Any:
    url = f"{token[0]}/v1/xorbs/default/{name}"
    return hub.client.post(url, content=body, headers=token[1])


def put_shard(hub: Hub, token: tuple[str, dict[str, str]], body: bytes, version: int = 2) -> Any:
    url = f"{token[0]}/v{version}/shards"
    return hub.client.post(url, content=body, headers=token[1])


def shard() -> bytes:
    return encode_shard([draft_file([_CHUNKS], [(0, 0, 2)])])


def last_event(answer: Any) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(answer.text.splitlines()[-1])
    return event


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_is_uploaded_by_xet(hub: Hub, olivia: Person, version: int) -> None:
    hub.make_repo(olivia, "model")
    token = xet_token(hub, olivia, "olivia/model")
    assert put_xorb(hub, token, encode_xorb(_CHUNKS)).json() == {"was_inserted": True}
    answer = put_shard(hub, token, shard(), version)
    assert answer.status_code == 200
    if version == 2:
        assert last_event(answer) == {"type": "result", "result": 1}
    content = b"".join(_CHUNKS)
    assert commit(hub, olivia.write, "olivia/model", sha256_of(content), len(content)) == 200
    assert hub.client.get("/olivia/model/resolve/main/w.safetensors").content == content


def test_a_xorb_with_another_hash_or_a_broken_body_is_refused(hub: Hub, olivia: Person) -> None:
    hub.make_repo(olivia, "model")
    token = xet_token(hub, olivia, "olivia/model")
    before = hub.state()
    body = encode_xorb(_CHUNKS)
    for sent, name in (
        (body, "0" * 64),
        (body, "..%2F..%2Fx"),
        (body, "short"),
        (body[:-1], _XORB),
        (body + b"x", _XORB),
        (b"", _XORB),
        (encode_xorb(_CHUNKS[::-1]), _XORB),
    ):
        assert put_xorb(hub, token, sent, name).status_code == 400
    assert hub.state() == before
    assert list(hub.services.incoming.iterdir()) == []


def test_a_shard_that_lies_is_refused(hub: Hub, olivia: Person) -> None:
    hub.make_repo(olivia, "model")
    token = xet_token(hub, olivia, "olivia/model")
    put_xorb(hub, token, encode_xorb(_CHUNKS))
    before = hub.state()
    wrong_sha = draft_file([_CHUNKS], [(0, 0, 2)])
    wrong_sha.sha256 = "0" * 64
    no_sha = draft_file([_CHUNKS], [(0, 0, 2)])
    no_sha.sha256 = None
    wrong_hash = draft_file([_CHUNKS], [(0, 0, 2)])
    wrong_hash.file_hash = "0" * 64
    for body in (
        encode_shard([wrong_sha]),
        encode_shard([no_sha]),
        encode_shard([wrong_hash]),
        shard()[: len(shard()) // 2],
        b"",
        b"nonsense",
    ):
        assert put_shard(hub, token, body, 1).status_code == 400
        streamed = last_event(put_shard(hub, token, body, 2))
        assert streamed["type"] == "error"
        assert streamed["message"]
    assert hub.state()["repo_objects"] == before["repo_objects"]
    assert hub.state() == before


def test_a_shard_may_not_name_a_xorb_of_somebody_else(
    hub: Hub, olivia: Person, mallory: Person
) -> None:
    secret = hub.make_repo(olivia, "secret", private=True)
    put_xorb(hub, xet_token(hub, olivia, "olivia/secret"), encode_xorb(_CHUNKS))
    hub.make_repo(mallory, "mine")
    token = xet_token(hub, mallory, "mallory/mine")
    before = hub.state()
    assert put_shard(hub, token, shard(), 1).status_code == 400
    grant = f"{token[0]}/v1/xorb-grants/default/{_XORB}"
    assert hub.client.post(grant, json={}, headers=token[1]).status_code == 404
    chunk = f"{token[0]}/v1/chunks/default/{_XORB}"
    assert hub.client.get(chunk, headers=token[1]).status_code == 404
    assert hub.state() == before
    # Whoever sends the bytes has them, and is not told that they were here before.
    assert put_xorb(hub, token, encode_xorb(_CHUNKS)).json() == {"was_inserted": True}
    assert put_shard(hub, token, shard(), 1).status_code == 200
    assert hub.services.repositories.by_id(secret.id) is not None


def test_a_xorb_that_many_repositories_hold_stays_usable(
    hub: Hub, olivia: Person, mallory: Person
) -> None:
    """Clients name it from memory, without asking."""
    for number in range(55):
        hub.make_repo(mallory, f"copy-{number}", private=True)
        put_xorb(hub, xet_token(hub, mallory, f"mallory/copy-{number}"), encode_xorb(_CHUNKS))
    for name in ("first", "second"):
        hub.make_repo(olivia, name, private=True)
    put_xorb(hub, xet_token(hub, olivia, "olivia/first"), encode_xorb(_CHUNKS))
    for name in ("first", "second"):
        answer = put_shard(hub, xet_token(hub, olivia, f"olivia/{name}"), shard(), 1)
        assert answer.status_code == 200


def test_a_xet_token_is_for_writers_only_and_for_its_own_purpose(
    hub: Hub, olivia: Person, mallory: Person
) -> None:
    repository: Repository = hub.make_repo(olivia, "model")
    url = "/api/models/olivia/model/xet-write-token/main"
    assert hub.client.get(url).status_code == 401
    assert hub.client.get(url, headers=olivia.read).status_code == 403
    assert hub.client.get(url, headers=mallory.write).status_code == 403
    cas, _ = xet_token(hub, olivia, "olivia/model")
    for purpose in (Purpose.LFS_UPLOAD, Purpose.LFS_DOWNLOAD, Purpose.XET_READ):
        text, _ = hub.services.capabilities.issue(
            purpose, repository.id, olivia.user.id, seconds=60
        )
        assert put_xorb(hub, (cas, bearer(text)), encode_xorb(_CHUNKS)).status_code == 401
    forged, _ = hub.services.capabilities.issue(
        Purpose.XET_WRITE, repository.id, mallory.user.id, seconds=60
    )
    assert put_xorb(hub, (cas, bearer(forged)), encode_xorb(_CHUNKS)).status_code == 403


def test_a_xet_token_counts_a_little_longer_than_it_says(hub: Hub, olivia: Person) -> None:
    """Clients hold on to it until its last second and give up at the first refusal."""
    hub.make_repo(olivia, "model")
    token = xet_token(hub, olivia, "olivia/model")
    hub.clock.advance(3600 + 600)
    assert put_xorb(hub, token, encode_xorb(_CHUNKS)).status_code == 200
    hub.clock.advance(600)
    assert put_xorb(hub, token, encode_xorb(_CHUNKS)).status_code == 401
