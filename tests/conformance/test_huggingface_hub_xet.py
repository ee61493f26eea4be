"""`huggingface_hub` with hf_xet downloads by Xet what was uploaded by Xet."""

from pathlib import Path

import pytest
from counting_proxy import CountingProxy
from hub_server import HubServer, Person
from stock_client import StockClient

# Xet stores chunks compressed and plain answers never are, so the bytes on the way tell which it
# was.
_CONTENT = b"".join(b"line %08d of a long and boring text\n" % number for number in range(300_000))
_REPO = "alice/by-xet"

UPLOAD = """
    import sys
    from huggingface_hub import HfApi
    HfApi().create_repo(sys.argv[1])
    HfApi().upload_file(
        path_or_fileobj=sys.argv[2], path_in_repo="a/large.bin", repo_id=sys.argv[1]
    )
    """
DOWNLOAD_FILE = """
    import json, sys
    from huggingface_hub import hf_hub_download
    print(json.dumps(hf_hub_download(sys.argv[1], "a/large.bin")))
    """
DOWNLOAD_ALL = """
    import json, sys
    from huggingface_hub import snapshot_download
    print(json.dumps(snapshot_download(sys.argv[1]) + "/a/large.bin"))
    """
READ_PART = """
    import json, sys
    from huggingface_hub import HfFileSystem
    with HfFileSystem().open(sys.argv[1] + "/a/large.bin", "rb") as file:
        file.seek(1_000_000)
        print(json.dumps(file.read(100).decode()))
    """


@pytest.fixture(scope="module")
def repository(server: HubServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("by-xet")
    (folder / "large.bin").write_bytes(_CONTENT)
    alice = server.person("alice")
    StockClient(server, folder / "home", alice.write_token).python(
        UPLOAD, _REPO, folder / "large.bin"
    )
    return _REPO


@pytest.mark.parametrize("program", [DOWNLOAD_FILE, DOWNLOAD_ALL], ids=["file", "snapshot"])
@pytest.mark.parametrize("is_signed_in", [True, False], ids=["owner", "nobody"])
def test_a_file_that_came_by_xet_goes_by_xet(
    server: HubServer,
    repository: str,
    alice: Person,
    tmp_path: Path,
    program: str,
    *,
    is_signed_in: bool,
) -> None:
    token = alice.read_token if is_signed_in else None
    with CountingProxy(server.port) as proxy:
        reader = StockClient(server, tmp_path, token, endpoint=proxy.url)
        path = Path(reader.python(program, repository))
        assert path.read_bytes() == _CONTENT
        assert proxy.bytes_down < len(_CONTENT) / 2


def test_without_hf_xet_the_same_file_goes_by_plain_http(
    server: HubServer, repository: str, tmp_path: Path
) -> None:
    with CountingProxy(server.port) as proxy:
        no_xet = {"HF_HUB_DISABLE_XET": "1"}
        reader = StockClient(server, tmp_path, None, no_xet, endpoint=proxy.url)
        assert Path(reader.python(DOWNLOAD_FILE, repository)).read_bytes() == _CONTENT
        assert proxy.bytes_down > len(_CONTENT)


def test_a_part_is_read_without_the_rest(
    server: HubServer, repository: str, tmp_path: Path
) -> None:
    reader = StockClient(server, tmp_path)
    assert reader.python(READ_PART, repository).encode() == _CONTENT[1_000_000:1_000_100]
