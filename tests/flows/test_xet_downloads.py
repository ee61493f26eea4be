"""Files by Xet over HTTP: what a reader gets, and what nobody else gets."""

from pathlib import Path
from typing import Any

import pytest
from factories import Hub, Person, bearer, sha256_of
from xet_encoder import draft_file, encode_shard, encode_xorb, xorb_hash
from xet_reader import reassemble

from gatehouse.identity.capabilities import Purpose
from gatehouse.repos.commits import AddLargeFile
from gatehouse.repos.repository import Gate, Repository
from gatehouse.repos.xet import Writer
from gatehouse.storage.xet.reconstruction import Reconstruction, StoredRange
from gatehouse.storage.xet.shard import Segment

# The second xorb begins with chunks of another file.
_XORBS = [
    [bytes([65 + number]) * (500 + number) for number in range(8)],
    [bytes([97 + number]) * (700 + number) for number in range(6)],
]
_CUTS = [(0, 0, 8), (1, 2, 6), (0, 3, 5)]
_CONTENT = b"".join(b"".join(_XORBS[xorb][start:end]) for xorb, start, end in _CUTS)
_FILE = draft_file(_XORBS, _CUTS)


def upload(
    hub: Hub, person: Person, name: str, *, private: bool = False, gate: Gate = Gate.OPEN
) -> Repository:
    """A repository with the file, as `w.safetensors`, that came by Xet."""
    repository = hub.make_repo(person, name, private=private, gate=gate)
    writer = Writer(person.actor, repository)
    for chunks in _XORBS:
        body = hub.services.incoming / "body"
        body.write_bytes(encode_xorb(chunks))
        hub.services.xet.put_xorb(writer, xorb_hash(chunks), body)
        body.unlink()
    hub.services.xet.put_shard(writer, encode_shard([_FILE]), lambda *_: None)
    add = AddLargeFile("w.safetensors", sha256_of(_CONTENT), len(_CONTENT))
    hub.commit(person, repository, [add])
    return repository


class Reader:
    """A Xet client with a read token for one repository."""

    def __init__(self, hub: Hub, repo: str, who: dict[str, str] | None = None) -> None:
        url = f"/api/models/{repo}/xet-read-token/main"
        self.answer = hub.client.get(url, headers=who or {})
        self._hub = hub
        if self.answer.status_code == 200:
            self.cas = self.answer.json()["casUrl"].removeprefix("http://hub.test")
            self.token = bearer(self.answer.json()["accessToken"])

    def ask(self, span: str | None = None, *, version: int = 2, name: str = "") -> Any:
        url = f"{self.cas}/v{version}/reconstructions/{name or _FILE.file_hash}"
        headers = {"Range": f"bytes={span}"} if span else {}
        return self._hub.client.get(url, headers={**self.token, **headers})

    def read(self, span: str | None = None, *, version: int = 2) -> bytes:
        answer = self.ask(span, version=version)
        assert answer.status_code == 200, answer.text
        plan, urls = _parse(answer.json(), version)
        first, last = map(int, (span or f"0-{len(_CONTENT) - 1}").split("-"))

        def fetch(stored: StoredRange) -> bytes:
            answer = fetch_data(self._hub, urls[stored], stored.start, stored.end - 1)
            return bytes(answer.content)

        return reassemble(plan, min(last, len(_CONTENT) - 1) - first + 1, fetch)


def fetch_data(hub: Hub, url: str, first: int, last: int, **headers: str) -> Any:
    """As clients do it, without any token."""
    return hub.client.get(url, headers={"Range": f"bytes={first}-{last}", **headers})


def first_address(reader: Reader) -> tuple[str, int, int]:
    """Of the second xorb: the address, and the range that it is signed for."""
    entry = reader.ask().json()["xorbs"][xorb_hash(_XORBS[1])][0]
    span = entry["ranges"][0]["bytes"]
    return entry["url"], span["start"], span["end"]


def _parse(answer: Any, version: int) -> tuple[Reconstruction, dict[StoredRange, str]]:
    urls: dict[StoredRange, str] = {}
    for name, entries in answer["xorbs" if version == 2 else "fetch_info"].items():
        for entry in entries:
            if version == 2:
                [ranges] = entry["ranges"]
                chunks, span = ranges["chunks"], ranges["bytes"]
            else:
                chunks, span = entry["range"], entry["url_range"]
            stored = StoredRange(
                name, chunks["start"], chunks["end"], span["start"], span["end"] + 1
            )
            urls[stored] = entry["url"]
    terms = tuple(
        Segment(term["hash"], term["unpacked_length"], term["range"]["start"], term["range"]["end"])
        for term in answer["terms"]
    )
    return Reconstruction(answer["offset_into_first_range"], terms, tuple(urls)), urls


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("span", [None, "0-0", "100-4999", "4000-9999999", "499-500"])
def test_anybody_reads_a_file_of_a_public_repository(
    hub: Hub, olivia: Person, version: int, span: str | None
) -> None:
    upload(hub, olivia, "model")
    start, end = map(int, (span or "0-9999999").split("-"))
    assert Reader(hub, "olivia/model").read(span, version=version) == _CONTENT[start : end + 1]


def test_the_token_is_in_the_body_and_in_the_headers(hub: Hub, olivia: Person) -> None:
    upload(hub, olivia, "model")
    answer = Reader(hub, "olivia/model", olivia.read).answer
    assert answer.json() == {
        "casUrl": answer.headers["x-xet-cas-url"],
        "exp": int(answer.headers["x-xet-token-expiration"]),
        "accessToken": answer.headers["x-xet-access-token"],
    }
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["exp"] > hub.clock.now().timestamp() + 1000


def test_a_range_past_the_end_is_416(hub: Hub, olivia: Person) -> None:
    upload(hub, olivia, "model")
    size = len(_CONTENT)
    for version in (1, 2):
        answer = Reader(hub, "olivia/model").ask(f"{size}-{size + 10}", version=version)
        assert answer.status_code == 416
        assert answer.headers["content-range"] == f"bytes */{size}"


def test_a_version_that_is_not_known_is_404(hub: Hub, olivia: Person) -> None:
    """At which clients try an older one."""
    upload(hub, olivia, "model")
    assert Reader(hub, "olivia/model").ask(version=3).status_code == 404


def test_files_are_announced_where_clients_look(hub: Hub, olivia: Person) -> None:
    repository = upload(hub, olivia, "model")
    oid = hub.put_object(repository, b"by LFS")
    hub.commit(olivia, repository, [AddLargeFile("plain.bin", oid, 6)])
    for method in ("HEAD", "GET"):
        answer = hub.client.request(method, "/olivia/model/resolve/main/w.safetensors")
        assert answer.headers["x-xet-hash"] == _FILE.file_hash
        refresh = answer.headers["x-xet-refresh-route"].removeprefix("http://hub.test")
        assert hub.client.get(refresh).status_code == 200
        plain = hub.client.request(method, "/olivia/model/resolve/main/plain.bin")
        assert "x-xet-hash" not in plain.headers
        assert "x-xet-refresh-route" not in plain.headers
    tree = hub.client.get("/api/models/olivia/model/tree/main").json()
    paths = {"paths": ["w.safetensors", "plain.bin", ".gitattributes"]}
    asked = hub.client.post("/api/models/olivia/model/paths-info/main", json=paths).json()
    for items in (tree, asked):
        assert {item["path"]: item.get("xetHash") for item in items} == {
            ".gitattributes": None,
            "plain.bin": None,
            "w.safetensors": _FILE.file_hash,
        }


def test_a_hub_that_does_not_offer_xet_announces_none(
    tmp_path: Path, migrated_database: Path
) -> None:
    hub = Hub(tmp_path / "hub", migrated_database, xet_downloads=False)
    upload(hub, hub.make_user("olivia"), "model")
    answer = hub.client.head("/olivia/model/resolve/main/w.safetensors")
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("x-xet")]
    tree = hub.client.get("/api/models/olivia/model/tree/main").json()
    assert not [item for item in tree if "xetHash" in item]
    # Whoever kept a listing from before is still served.
    assert Reader(hub, "olivia/model").read() == _CONTENT
    hub.close()


def test_a_download_by_xet_is_counted(hub: Hub, olivia: Person) -> None:
    upload(hub, olivia, "model")
    counting = {"X-HF-Download-Counter": "1"}
    assert Reader(hub, "olivia/model", counting).answer.status_code == 200
    assert Reader(hub, "olivia/model").answer.status_code == 200
    hub.services.download_counts.flush()
    assert hub.client.get("/api/models/olivia/model").json()["downloads"] == 1


@pytest.mark.parametrize("name", ["gated", "private"])
def test_a_token_is_refused_exactly_as_the_file_is(
    hub: Hub, olivia: Person, mallory: Person, name: str
) -> None:
    gate = Gate.MANUAL if name == "gated" else Gate.OPEN
    upload(hub, olivia, name, private=name == "private", gate=gate)
    for who in ({}, mallory.read, mallory.write):
        file = hub.client.get(f"/olivia/{name}/resolve/main/w.safetensors", headers=who)
        token = Reader(hub, f"olivia/{name}", who).answer
        assert file.status_code in (401, 403, 404)
        assert token.status_code == file.status_code
        assert token.headers["x-error-code"] == file.headers["x-error-code"]
        assert "x-xet-access-token" not in token.headers
    assert Reader(hub, f"olivia/{name}", olivia.read).read() == _CONTENT


def test_a_cancelled_grant_ends_tokens_and_addresses_at_once(
    hub: Hub, olivia: Person, mallory: Person
) -> None:
    gated = upload(hub, olivia, "gated", gate=Gate.MANUAL)
    hub.accept(olivia, gated, mallory)
    reader = Reader(hub, "olivia/gated", mallory.read)
    assert reader.read() == _CONTENT
    url, first, last = first_address(reader)
    assert fetch_data(hub, url, first, last).status_code == 206
    handle = "/api/models/olivia/gated/user-access-request/handle"
    cancel = {"user": "mallory", "status": "pending"}
    assert hub.client.post(handle, json=cancel, headers=olivia.write).status_code == 200
    for answer in (
        reader.ask(),
        reader.ask(version=1),
        fetch_data(hub, url, first, last),
        Reader(hub, "olivia/gated", mallory.read).answer,
    ):
        assert answer.status_code == 403
        assert answer.headers["x-error-code"] == "GatedRepo"


def test_a_public_repository_that_becomes_private_is_closed_to_old_tokens(
    hub: Hub, olivia: Person
) -> None:
    upload(hub, olivia, "model")
    reader = Reader(hub, "olivia/model")
    url, first, last = first_address(reader)
    hide = hub.client.put(
        "/api/models/olivia/model/settings", json={"private": True}, headers=olivia.write
    )
    assert hide.status_code == 200
    assert reader.ask().status_code == 401
    assert fetch_data(hub, url, first, last).status_code == 401


def test_knowing_a_hash_is_not_access(hub: Hub, olivia: Person, mallory: Person) -> None:
    upload(hub, olivia, "secret", private=True)
    hub.make_repo(mallory, "mine")
    reader = Reader(hub, "mallory/mine", mallory.write)
    unknown = reader.ask(name="0" * 64)
    foreign = reader.ask()
    assert (foreign.status_code, unknown.status_code) == (404, 404)
    said = (answer.json()["error"] for answer in (foreign, unknown))
    assert len({text.replace(_FILE.file_hash, "0" * 64) for text in said}) == 1
    for name in ("short", "..%2F..%2Fx", "A" * 64):
        assert reader.ask(name=name).status_code == 404


def test_a_token_is_for_reading_and_for_its_own_purpose(hub: Hub, olivia: Person) -> None:
    repository = upload(hub, olivia, "model")
    reader = Reader(hub, "olivia/model", olivia.read)
    body = encode_xorb(_XORBS[0])
    put = f"{reader.cas}/v1/xorbs/default/{xorb_hash(_XORBS[0])}"
    assert hub.client.post(put, content=body, headers=reader.token).status_code == 401
    url = f"{reader.cas}/v2/reconstructions/{_FILE.file_hash}"
    for purpose in set(Purpose) - {Purpose.XET_READ}:
        text, _ = hub.services.capabilities.issue(
            purpose, repository.id, olivia.user.id, seconds=60
        )
        assert hub.client.get(url, headers=bearer(text)).status_code == 401
    assert hub.client.get(url, headers=olivia.read).status_code == 401
    assert hub.client.get(url).status_code == 401


def test_an_address_gives_its_range_and_parts_of_it_and_nothing_else(
    hub: Hub, olivia: Person
) -> None:
    upload(hub, olivia, "model")
    url, first, last = first_address(Reader(hub, "olivia/model"))
    # The chunks before it are of no file that anybody may read.
    assert first > 0
    body = encode_xorb(_XORBS[1])
    whole = fetch_data(hub, url, first, last)
    assert (whole.status_code, whole.content) == (206, body[first : last + 1])
    assert whole.headers["content-range"] == f"bytes {first}-{last}/{len(body)}"
    assert int(whole.headers["content-length"]) == last - first + 1
    part = fetch_data(hub, url, first + 5, last - 5)
    assert (part.status_code, part.content) == (206, body[first + 5 : last - 4])
    # A condition that does not hold must not turn a range into the whole.
    conditional = fetch_data(hub, url, first, last, **{"If-Range": '"other"'})
    assert (conditional.status_code, conditional.content) == (416, b"")
    for span in (
        f"{first - 1}-{last}",
        "0-0",
        f"{last + 1}-",
        "-999999",
        "",
        f"0-0,{first}-{last}",
    ):
        answer = hub.client.get(url, headers={"Range": f"bytes={span}"})
        assert answer.status_code == 416, span
        assert answer.content == b""
    assert hub.client.get(url).status_code == 416


def test_a_whole_xorb_comes_with_all_its_headers(hub: Hub, olivia: Person) -> None:
    upload(hub, olivia, "model")
    body = encode_xorb(_XORBS[0])
    [entry] = Reader(hub, "olivia/model").ask().json()["xorbs"][xorb_hash(_XORBS[0])]
    answer = fetch_data(hub, entry["url"], 0, len(body) - 1)
    assert (answer.status_code, answer.content) == (206, body)
    assert answer.headers["content-range"] == f"bytes 0-{len(body) - 1}/{len(body)}"
    assert int(answer.headers["content-length"]) == len(body)
    # Equal bytes are stored once: the time of the file would tell of other uploads.
    assert answer.headers["last-modified"].endswith("1970 00:00:00 GMT")


def test_an_address_is_bound_to_its_xorb_and_short_lived(hub: Hub, olivia: Person) -> None:
    upload(hub, olivia, "model")
    url, first, last = first_address(Reader(hub, "olivia/model", olivia.read))
    other = url.replace(xorb_hash(_XORBS[1]), xorb_hash(_XORBS[0]))
    assert olivia.read["Authorization"].split()[1] not in url
    for wrong in (other, url[:-3] + "abc", url.partition("?")[0]):
        assert fetch_data(hub, wrong, first, last).status_code == 403
    hub.clock.advance(899)
    assert fetch_data(hub, url, first, last).status_code == 206
    hub.clock.advance(2)
    # At this status clients ask for a new address.
    assert fetch_data(hub, url, first, last).status_code == 403


def test_a_read_token_expires(hub: Hub, olivia: Person) -> None:
    upload(hub, olivia, "model")
    reader = Reader(hub, "olivia/model")
    hub.clock.advance(3600 + 600)
    assert reader.ask().status_code == 200
    hub.clock.advance(600)
    assert reader.ask().status_code == 401


def test_a_file_whose_xorb_is_lost_is_told_as_damage(hub: Hub, olivia: Person) -> None:
    upload(hub, olivia, "model")
    reader = Reader(hub, "olivia/model")
    url, first, last = first_address(reader)
    for path in (hub.settings.data_dir / "xet" / "xorbs").rglob(f"{xorb_hash(_XORBS[1])}.*"):
        path.unlink()
    assert reader.ask().status_code == 503
    assert fetch_data(hub, url, first, last).status_code == 503
    # By plain HTTP it is still whole.
    assert hub.client.get("/olivia/model/resolve/main/w.safetensors").content == _CONTENT
