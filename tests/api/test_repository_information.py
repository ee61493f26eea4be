"""Info, trees, paths and lists, with the keys that clients read."""

from typing import Any

import pytest
from factories import Hub, Person, sha256_of

from gatehouse.repos.commits import AddFile
from gatehouse.repos.repository import Gate

_API = "/api/models/olivia/model"
_CARD = b"---\nlicense: mit\npipeline_tag: text-generation\ntags: [tiny]\n---\n# Hello\n"
_CONFIG = b'{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "secret": 1}'


@pytest.fixture
def olivia(hub: Hub) -> Person:
    olivia = hub.make_user("olivia")
    hub.make_repo(
        olivia,
        "model",
        files={"README.md": _CARD, "config.json": _CONFIG, "a/b/c.txt": b"c"},
        large_files={"w.safetensors": b"weights"},
    )
    return olivia


def test_info_has_what_clients_read(hub: Hub, olivia: Person) -> None:
    info: dict[str, Any] = hub.client.get(f"{_API}?blobs=true").json()
    assert info["id"] == info["modelId"] == "olivia/model"
    assert len(info["sha"]) == 40
    assert (info["private"], info["gated"], info["disabled"]) == (False, False, False)
    assert info["pipeline_tag"] == "text-generation"
    assert info["library_name"] == "transformers"
    assert info["config"] == {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    assert info["cardData"]["license"] == "mit"
    assert {"tiny", "license:mit", "safetensors"} <= set(info["tags"])
    assert info["createdAt"].endswith("Z")
    siblings = {item["rfilename"]: item for item in info["siblings"]}
    assert siblings["w.safetensors"]["lfs"]["sha256"] == sha256_of(b"weights")
    assert siblings["w.safetensors"]["size"] == 7
    assert "size" not in hub.client.get(_API).json()["siblings"][0]


@pytest.mark.parametrize("query", ["expand=sha&expand=gated", "expand[]=sha&expand[]=gated"])
def test_expand_sends_only_what_was_asked(hub: Hub, olivia: Person, query: str) -> None:
    assert set(hub.client.get(f"{_API}?{query}").json()) == {"_id", "id", "sha", "gated"}


def test_half_characters_in_a_configuration_break_no_list(hub: Hub, olivia: Person) -> None:
    half = b'{"model_type": "\\ud800", "architectures": ["\\udfff"], "eos_token": "\\ud800"}'
    hub.make_repo(olivia, "half", files={"config.json": half, "tokenizer_config.json": half})
    for path in ("/api/models/olivia/half", "/api/models?full=true&config=true", "/olivia/half"):
        assert hub.client.get(path).status_code == 200, path
    assert hub.client.get("/api/models/olivia/half").json()["config"]["model_type"] == "?"


def test_a_tree_lists_a_folder_or_all_of_it(hub: Hub, olivia: Person) -> None:
    def paths(address: str) -> list[str]:
        return [item["path"] for item in hub.client.get(f"{_API}/tree/main{address}").json()]

    root = [".gitattributes", "README.md", "a", "config.json", "w.safetensors"]
    assert sorted(paths("")) == sorted(root)
    assert paths("/a") == ["a/b"]
    assert paths("/a%2Fb") == paths("/a/b/") == ["a/b/c.txt"]
    assert sorted(paths("?recursive=true")) == sorted([*root, "a/b", "a/b/c.txt"])
    large = next(
        item
        for item in hub.client.get(f"{_API}/tree/main").json()
        if item["path"] == "w.safetensors"
    )
    assert large["lfs"]["oid"] == sha256_of(b"weights")
    assert large["size"] == 7


def test_a_long_tree_comes_in_pages_with_an_absolute_link(hub: Hub, olivia: Person) -> None:
    url: str | None = f"{_API}/tree/main?recursive=true&limit=3"
    seen: list[str] = []
    while url is not None:
        answer = hub.client.get(url)
        page = [item["path"] for item in answer.json()]
        assert 0 < len(page) <= 3
        seen += page
        link = answer.headers.get("link")
        if link is not None:
            assert link.startswith("<http://hub.test/api/models/olivia/model/tree/main?")
            assert link.endswith('>; rel="next"')
        url = None if link is None else link[1:].partition(">")[0]
    assert len(seen) == len(set(seen)) == 7


def test_expand_names_the_last_commit_of_every_entry(hub: Hub, olivia: Person) -> None:
    repositories = hub.services.repositories
    repository = repositories.list_visible(olivia.actor)[0]
    first = hub.head(repository)
    second = hub.commit(olivia, repository, [AddFile("new.txt", b"x")])
    items = hub.client.get(f"{_API}/tree/main?recursive=true&expand=true").json()
    last = {item["path"]: item["lastCommit"]["id"] for item in items}
    assert last["new.txt"] == second
    assert last["a/b/c.txt"] == last["a"] == first
    assert all(item["lastCommit"]["date"].endswith("Z") for item in items)


@pytest.mark.parametrize("as_json", [True, False])
def test_paths_are_described_and_unknown_ones_left_out(
    hub: Hub, olivia: Person, as_json: bool
) -> None:
    asked = ["README.md", "a", "none", "w.safetensors", "../x", "", "x" * 5000]
    body = {"paths": asked, "expand": as_json}
    url = f"{_API}/paths-info/main"
    answer = hub.client.post(url, json=body) if as_json else hub.client.post(url, data=body)
    assert [item["path"] for item in answer.json()] == ["README.md", "a", "w.safetensors"]
    assert all(("lastCommit" in item) is as_json for item in answer.json())


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"paths": 1}', b'{"paths": [1]}', b"{", b"\xff"])
def test_paths_that_are_none_are_400(hub: Hub, olivia: Person, body: bytes) -> None:
    answer = hub.client.post(
        f"{_API}/paths-info/main", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400


def test_too_many_paths_are_400(hub: Hub, olivia: Person) -> None:
    answer = hub.client.post(f"{_API}/paths-info/main", json={"paths": ["a"] * 1001})
    assert answer.status_code == 400


def test_a_gated_repository_shows_its_metadata_and_no_content(hub: Hub) -> None:
    hub.make_repo(
        hub.make_user("olivia"),
        "gated",
        gate=Gate.AUTO,
        files={"config.json": _CONFIG, "notes.txt": b"swordfish"},
    )
    for address in ("", "/tree/main?expand=true", "/revision/main?blobs=true"):
        answer = hub.client.get(f"/api/models/olivia/gated{address}")
        assert answer.status_code == 200
        assert "swordfish" not in answer.text
        assert "secret" not in answer.text


def test_lists_are_searched_and_bounded(hub: Hub, olivia: Person) -> None:
    hub.make_repo(olivia, "other")
    hub.make_repo(olivia, "hidden", private=True)

    def names(query: str, headers: dict[str, str] | None = None) -> list[str]:
        answer = hub.client.get(f"/api/models?{query}", headers=headers)
        return [item["id"] for item in answer.json()]

    assert set(names("")) == {"olivia/model", "olivia/other"}
    assert names("search=MOD") == ["olivia/model"]
    assert names("author=nobody") == []
    assert len(names("limit=1")) == 1
    assert "olivia/hidden" in names("", olivia.read)
    assert hub.client.get("/api/models?limit=0").status_code == 400


def test_discussions_fail_so_that_no_token_goes_to_a_third_party(hub: Hub, olivia: Person) -> None:
    """Transformers sends the caller's token to a conversion service when this list is empty."""
    assert hub.client.get(f"{_API}/discussions").status_code == 501
