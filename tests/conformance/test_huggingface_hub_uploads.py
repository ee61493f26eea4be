"""`huggingface_hub` with hf_xet as pip installs them: folders up, snapshots down, bytes equal."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from conformance_files import digests
from counting_proxy import CountingProxy
from hub_server import HubServer, Person
from stock_client import StockClient

_LARGE = 61 * 1024 * 1024

UPLOAD = """
import sys
from huggingface_hub import HfApi
api = HfApi()
api.create_repo(sys.argv[1], exist_ok=True)
api.create_repo(sys.argv[1], exist_ok=True)
api.upload_folder(repo_id=sys.argv[1], folder_path=sys.argv[2])
"""
DOWNLOAD = """
import json, sys
from huggingface_hub import snapshot_download
print(json.dumps(snapshot_download(sys.argv[1])))
"""


def make_folder(folder: Path, seed: int) -> Path:
    """A file over 60 MB, 200 small files in folders, awkward names and an empty file."""
    folder.mkdir()
    chance = random.Random(seed)
    (folder / "model.safetensors").write_bytes(chance.randbytes(_LARGE))
    for index in range(200):
        path = folder / f"part{index % 7}" / f"file {index}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(chance.randbytes(index * 11))
    (folder / "größe #1 100%.json").write_text('{"a": 1}')
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Uploaded\n")
    return folder


@pytest.mark.parametrize("transfer", ["xet", "lfs"])
def test_a_folder_goes_up_and_comes_down_byte_for_byte(
    transfer: str, tmp_path: Path, alice: Person, new_client: Callable[..., StockClient]
) -> None:
    folder = make_folder(tmp_path / "folder", 1 if transfer == "xet" else 2)
    environment = {"HF_HUB_DISABLE_XET": "1"} if transfer == "lfs" else {}
    repo_id = f"alice/folder-by-{transfer}"
    new_client(alice.write_token, **environment).python(UPLOAD, repo_id, folder)
    # An empty cache, and a reader that need not be signed in.
    snapshot = new_client(**environment).python(DOWNLOAD, repo_id)
    expected = digests(folder)
    found = digests(Path(snapshot))
    found.pop(".gitattributes")
    assert len(found) == 203
    assert found == expected


@pytest.mark.parametrize("transfer", ["xet", "lfs"])
def test_the_same_upload_again_transfers_almost_nothing(
    transfer: str, tmp_path: Path, alice: Person, server: HubServer
) -> None:
    # Of its own seed: what the owner uploaded before is not sent again at all.
    folder = make_folder(tmp_path / "folder", 3 if transfer == "xet" else 4)
    environment = {"HF_HUB_DISABLE_XET": "1"} if transfer == "lfs" else {}
    repo_id = f"alice/twice-by-{transfer}"
    with CountingProxy(server.port) as proxy:
        machine = StockClient(
            server, tmp_path / "first", alice.write_token, environment, endpoint=proxy.url
        )
        machine.python(UPLOAD, repo_id, folder)
        assert proxy.bytes_up > _LARGE

        proxy.reset()
        machine.python(UPLOAD, repo_id, folder)
        assert proxy.bytes_up < 300_000, "the second time from the same machine"

        proxy.reset()
        machine.python(UPLOAD, f"{repo_id}-copy", folder)
        assert proxy.bytes_up < 2_000_000, "to another repository of the same owner"

        proxy.reset()
        fresh = StockClient(
            server, tmp_path / "second", alice.write_token, environment, endpoint=proxy.url
        )
        fresh.python(UPLOAD, repo_id, folder)
        assert proxy.bytes_up < 300_000, "from a machine with empty caches"


def test_a_changed_copy_of_a_large_file_sends_the_change_only(
    tmp_path: Path, alice: Person, server: HubServer
) -> None:
    data = bytearray(random.Random(8).randbytes(20_000_000))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(data)
    with CountingProxy(server.port) as proxy:
        machine = StockClient(server, tmp_path / "home", alice.write_token, endpoint=proxy.url)
        machine.python(UPLOAD, "alice/changed", folder)
        data[10_000_000:10_000_000] = b"a few bytes in the middle"
        (folder / "weights.bin").write_bytes(data)
        proxy.reset()
        machine.python(UPLOAD, "alice/changed", folder)
        assert proxy.bytes_up < 2_000_000
    snapshot = StockClient(server, tmp_path / "reader").python(DOWNLOAD, "alice/changed")
    assert (Path(snapshot) / "weights.bin").read_bytes() == data


def test_files_objects_and_bytes_can_be_uploaded_one_by_one(
    owner: StockClient, new_client: Callable[..., StockClient], tmp_path: Path
) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(random.Random(9).randbytes(3_000_000))
    urls = owner.python(
        """
        import io, json, sys
        from huggingface_hub import HfApi
        api, repo = HfApi(), "alice/one-by-one"
        api.create_repo(repo)
        data = open(sys.argv[1], "rb").read()
        commits = [
            api.upload_file(path_or_fileobj=sys.argv[1], path_in_repo="a/large.bin", repo_id=repo),
            api.upload_file(path_or_fileobj=b"text", path_in_repo="small.txt", repo_id=repo),
            api.upload_file(
                path_or_fileobj=io.BytesIO(data + b"2"), path_in_repo="second.bin", repo_id=repo
            ),
        ]
        print(json.dumps([commit.commit_url for commit in commits]))
        """,
        large,
    )
    assert all(url.startswith(f"{owner.hub.url}/alice/one-by-one/commit/") for url in urls)
    snapshot = Path(new_client().python(DOWNLOAD, "alice/one-by-one"))
    assert (snapshot / "a" / "large.bin").read_bytes() == large.read_bytes()
    assert (snapshot / "second.bin").read_bytes() == large.read_bytes() + b"2"
    assert (snapshot / "small.txt").read_text() == "text"


def test_an_interrupted_download_goes_on_where_it_stopped(
    owner: StockClient, tmp_path: Path, server: HubServer
) -> None:
    data = random.Random(10).randbytes(24_000_000)
    (tmp_path / "weights.bin").write_bytes(data)
    owner.python(
        """
        import sys
        from huggingface_hub import HfApi
        HfApi().create_repo("alice/resumed")
        HfApi().upload_file(
            path_or_fileobj=sys.argv[1], path_in_repo="weights.bin", repo_id="alice/resumed"
        )
        """,
        tmp_path / "weights.bin",
    )
    with CountingProxy(server.port) as proxy:
        proxy.cut_at = 16_000_000
        reader = StockClient(server, tmp_path / "reader", endpoint=proxy.url)
        path = reader.python(
            """
            import json
            from huggingface_hub import hf_hub_download
            print(json.dumps(hf_hub_download("alice/resumed", "weights.bin")))
            """
        )
        assert proxy.cut_at is None, "the connection was cut"
        # The client keeps whole pieces of 10 MB.
        assert proxy.bytes_down < 33_000_000
    assert Path(path).read_bytes() == data
