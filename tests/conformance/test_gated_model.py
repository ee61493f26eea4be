"""A gate with three users: the owner, a stranger who asks, and nobody, on every path to bytes."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from conformance_files import DEMO_MODEL
from hub_server import HubServer, Person, csrf_token
from stock_client import StockClient
from tokenizer_refusals import assert_gated

NewClient = Callable[..., StockClient]

FROM_PRETRAINED = """
    import json, sys
    from transformers import AutoModelForCausalLM, AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
    print(json.dumps([len(tokenizer("the cat").input_ids) > 1, model.num_parameters() > 1000]))
    """
DECIDE = """
    import sys
    from huggingface_hub import HfApi
    getattr(HfApi(), sys.argv[1])(sys.argv[2], sys.argv[3])
    """


@pytest.fixture(scope="module")
def gated(server: HubServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of Alice's behind a gate that she guards by hand."""
    machine = StockClient(
        server, tmp_path_factory.mktemp("machine"), server.person("alice").write_token
    )
    machine.python(
        """
        import sys
        from huggingface_hub import HfApi
        api, repo = HfApi(), "alice/gated-model"
        api.create_repo(repo)
        api.upload_folder(repo_id=repo, folder_path=sys.argv[1])
        card = b"---\\npipeline_tag: text-generation\\nextra_gated_fields:\\n  Team: text\\n---\\n"
        api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=repo)
        api.update_repo_settings(repo, gated="manual")
        """,
        DEMO_MODEL,
    )
    return "alice/gated-model"


class Paths:
    """Every way to a repository's bytes, or to what is made of them."""

    def __init__(self, server: HubServer, repo_id: str) -> None:
        self._server = server
        self._repo_id = repo_id
        owner = {"Authorization": f"Bearer {server.person('alice').read_token}"}
        url = f"{server.url}/{repo_id}/resolve/main/model.safetensors"
        weights = httpx.get(url, headers=owner).content
        self._object = {"oid": hashlib.sha256(weights).hexdigest(), "size": len(weights)}

    def statuses(self, token: str | None) -> dict[str, int]:
        """What each of them answers to whoever holds `token`."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with httpx.Client(base_url=self._server.url, headers=headers, timeout=60) as http:
            answers = self._bytes(http) | self._models(http) | self._git(token)
        for name, answer in answers.items():
            if answer.status_code in (401, 403):
                assert answer.headers["X-Error-Code"] == "GatedRepo", name
        return {name: answer.status_code for name, answer in answers.items()}

    def _bytes(self, http: httpx.Client) -> dict[str, httpx.Response]:
        config = f"/{self._repo_id}/resolve/main/config.json"
        weights = f"/{self._repo_id}/resolve/main/model.safetensors"
        return {
            "GET": http.get(config),
            "HEAD": http.head(config),
            "Range": http.get(config, headers={"Range": "bytes=0-0"}),
            "GET large": http.get(weights),
            "HEAD large": http.head(weights),
            "Range large": http.get(weights, headers={"Range": "bytes=0-9"}),
            "raw": http.get(f"/{self._repo_id}/raw/main/config.json"),
            "page of a file": http.get(f"/{self._repo_id}/blob/main/config.json"),
            "Xet read": http.get(f"/api/models/{self._repo_id}/xet-read-token/main"),
        }

    def _models(self, http: httpx.Client) -> dict[str, httpx.Response]:
        body = {"inputs": "the cat", "parameters": {"max_new_tokens": 2}}
        messages = [{"role": "user", "content": "Hello!"}]
        chat = {"messages": messages, "max_tokens": 2}
        return {
            "POST /models": http.post(f"/models/{self._repo_id}", json=body),
            "generate": http.post(f"/models/{self._repo_id}/generate", json=body),
            "stream": http.post(f"/models/{self._repo_id}/generate_stream", json=body),
            "chat": http.post(f"/models/{self._repo_id}/v1/chat/completions", json=chat),
        }

    def _git(self, token: str | None) -> dict[str, httpx.Response]:
        basic = httpx.BasicAuth("hf_user", token) if token else None
        with httpx.Client(base_url=self._server.url, auth=basic) as http:
            return self._git_as(http)

    def _git_as(self, http: httpx.Client) -> dict[str, httpx.Response]:
        repo = f"/{self._repo_id}"
        batch = {"operation": "download", "transfers": ["basic"], "objects": [self._object]}
        lfs = {"Accept": "application/vnd.git-lfs+json"}
        return {
            "git refs": http.get(f"{repo}/info/refs?service=git-upload-pack"),
            "git fetch": http.post(f"{repo}.git/git-upload-pack", content=b"0000", headers=lfs),
            "LFS batch": http.post(f"{repo}.git/info/lfs/objects/batch", json=batch, headers=lfs),
        }


def assert_let_in(paths: Paths, token: str) -> None:
    statuses = paths.statuses(token)
    assert set(statuses.values()) <= {200, 206}, statuses


def test_a_gate_lets_in_whom_the_owner_lets_in_and_nobody_else(
    server: HubServer,
    gated: str,
    owner: StockClient,
    bob: Person,
    new_client: NewClient,
    nobody: StockClient,
    tmp_path: Path,
) -> None:
    paths = Paths(server, gated)
    clone = ("git", "clone", f"http://hf_user:{bob.read_token}@{server.url[7:]}/{gated}")

    # Before: everybody may know of it, and only the owner gets bytes.
    assert set(paths.statuses(bob.read_token).values()) == {403}
    assert set(paths.statuses(bob.write_token).values()) == {403}
    assert set(paths.statuses(None).values()) == {401}
    assert_let_in(paths, server.person("alice").read_token)
    assert_gated(new_client(bob.read_token), gated)
    assert new_client(bob.read_token).run(*clone, tmp_path / "before").returncode != 0
    assert nobody.python(
        """
        import json, sys
        from huggingface_hub import HfApi
        info = HfApi().model_info(sys.argv[1])
        print(json.dumps([info.gated, "config.json" in [s.rfilename for s in info.siblings]]))
        """,
        gated,
    ) == ["manual", True]

    # He asks, on the page, and is still outside.
    with bob.browser() as browser:
        page = browser.get(f"/{gated}")
        assert "Team" in page.text
        form = {"Team": "Research", "csrf_token": csrf_token(page)}
        assert browser.post(f"/{gated}/ask-access", data=form).status_code == 303
    pending = owner.python(
        """
        import json, sys
        from huggingface_hub import HfApi
        requests = HfApi().list_pending_access_requests(sys.argv[1])
        print(json.dumps([[r.username, r.status, r.fields] for r in requests]))
        """,
        gated,
    )
    assert [request[:2] for request in pending] == [["bob", "pending"]]
    assert "Research" in str(pending[0][2])
    assert set(paths.statuses(bob.read_token).values()) == {403}

    # Accepted: everything works.
    owner.python(DECIDE, "accept_access_request", gated, "bob")
    assert_let_in(paths, bob.read_token)
    assert set(paths.statuses(None).values()) == {401}
    assert new_client(bob.read_token).python(FROM_PRETRAINED, gated) == [True, True]
    new_client(bob.read_token).check(*clone, tmp_path / "accepted")
    assert (tmp_path / "accepted" / "config.json").is_file()

    # Cancelled: it stops, at once and on every path.
    owner.python(DECIDE, "cancel_access_request", gated, "bob")
    assert set(paths.statuses(bob.read_token).values()) == {403}
    assert_gated(new_client(bob.read_token), gated)
    assert new_client(bob.read_token).run(*clone, tmp_path / "after").returncode != 0

    # Rejected, then granted without asking again.
    owner.python(
        """
        import sys
        from huggingface_hub import HfApi
        HfApi().reject_access_request(sys.argv[1], "bob", rejection_reason="Not this time")
        """,
        gated,
    )
    with bob.browser() as browser:
        assert "Not this time" in browser.get(f"/{gated}").text
    assert set(paths.statuses(bob.read_token).values()) == {403}
    owner.python(DECIDE, "accept_access_request", gated, "bob")
    assert_let_in(paths, bob.read_token)
    owner.python(DECIDE, "cancel_access_request", gated, "bob")


def test_an_address_signed_for_somebody_dies_with_the_grant(
    server: HubServer, gated: str, owner: StockClient, carol: Person
) -> None:
    owner.python(DECIDE, "grant_access", gated, "carol")
    headers = {"Authorization": f"Bearer {carol.read_token}"}
    url = f"{server.url}/{gated}/resolve/main/model.safetensors"
    weights = httpx.get(url, headers=headers).content
    body = {
        "operation": "download",
        "objects": [{"oid": hashlib.sha256(weights).hexdigest(), "size": len(weights)}],
    }
    batch = f"{server.url}/{gated}.git/info/lfs/objects/batch"
    answer = httpx.post(batch, json=body, headers=headers).json()
    href = answer["objects"][0]["actions"]["download"]["href"]
    assert httpx.get(href).content == weights
    owner.python(DECIDE, "cancel_access_request", gated, "carol")
    assert httpx.get(href).status_code == 403


def test_a_xet_token_dies_with_the_grant(
    server: HubServer, gated: str, owner: StockClient, carol: Person
) -> None:
    owner.python(DECIDE, "grant_access", gated, "carol")
    headers = {"Authorization": f"Bearer {carol.read_token}"}
    file = httpx.head(f"{server.url}/{gated}/resolve/main/model.safetensors", headers=headers)
    answer = httpx.get(file.headers["X-Xet-Refresh-Route"], headers=headers)
    cas, token = answer.headers["X-Xet-Cas-Url"], answer.headers["X-Xet-Access-Token"]
    xet_hash, bearer = file.headers["X-Xet-Hash"], {"Authorization": f"Bearer {token}"}
    reconstruction = f"{cas}/v2/reconstructions/{xet_hash}"
    xorbs = httpx.get(reconstruction, headers=bearer).json()["xorbs"].values()
    entry = next(iter(xorbs))[0]
    span = entry["ranges"][0]["bytes"]
    part = {"Range": f"bytes={span['start']}-{span['end']}"}
    assert httpx.get(entry["url"], headers=part).status_code == 206
    owner.python(DECIDE, "cancel_access_request", gated, "carol")
    assert httpx.get(reconstruction, headers=bearer).status_code == 403
    assert httpx.get(entry["url"], headers=part).status_code == 403
    assert httpx.get(file.headers["X-Xet-Refresh-Route"], headers=headers).status_code == 403


def test_an_automatic_gate_lets_in_who_asks(
    server: HubServer, owner: StockClient, stranger: StockClient, bob: Person
) -> None:
    owner.python(
        """
        from huggingface_hub import HfApi
        api = HfApi()
        api.create_repo("alice/auto-gated")
        api.upload_file(path_or_fileobj=b"1", path_in_repo="a.txt", repo_id="alice/auto-gated")
        api.update_repo_settings("alice/auto-gated", gated="auto")
        """
    )
    headers = {"Authorization": f"Bearer {bob.read_token}"}
    address = f"{server.url}/alice/auto-gated"
    assert httpx.get(f"{address}/resolve/main/a.txt", headers=headers).status_code == 403
    assert httpx.post(f"{address}/ask-access", json={}).status_code == 401
    with bob.browser() as browser:
        form = {"csrf_token": csrf_token(browser.get("/alice/auto-gated"))}
        assert browser.post("/alice/auto-gated/ask-access", data=form).status_code == 303
    assert (
        stranger.python(
            """
        import json
        from huggingface_hub import hf_hub_download
        print(json.dumps(open(hf_hub_download("alice/auto-gated", "a.txt")).read()))
        """
        )
        == "1"
    )
