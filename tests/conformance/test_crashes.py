"""`kill -9` of the server: what was acknowledged is whole, the rest is absent, and work goes on."""

import hashlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from conformance_files import assert_sound, digests
from counting_proxy import CountingProxy
from hub_server import HubServer
from stock_client import StockClient

_SIZE = 40_000_000
CREATE = """
    import sys
    from huggingface_hub import HfApi
    HfApi().create_repo(sys.argv[1])
    """
UPLOAD = """
    import sys
    from huggingface_hub import HfApi
    HfApi().upload_folder(repo_id=sys.argv[1], folder_path=sys.argv[2])
    """
FILES = """
    import json, sys
    from huggingface_hub import HfApi
    print(json.dumps(sorted(HfApi().list_repo_files(sys.argv[1]))))
    """
DOWNLOAD = """
    import json, sys
    from huggingface_hub import snapshot_download
    print(json.dumps(snapshot_download(sys.argv[1])))
    """
COMMITS = """
    import io, sys
    from huggingface_hub import HfApi
    api = HfApi()
    for number in range(1000):
        content = str(number).encode() * (600_000 if number % 3 == 2 else 1)
        name = f"{number}.bin" if number % 3 == 2 else f"{number}.txt"
        commit = api.upload_file(
            path_or_fileobj=io.BytesIO(content), path_in_repo=name, repo_id=sys.argv[1]
        )
        print(commit.oid, name, flush=True)
    """


@pytest.fixture(scope="module")
def killed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    server = HubServer(tmp_path_factory.mktemp("fragile"))
    yield server
    server.kill()


@pytest.fixture
def fragile(killed_server: HubServer) -> HubServer:
    """A running server that no other file uses, to be killed."""
    if not killed_server.is_running:
        killed_server.start()
    return killed_server


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A large and a small file, unlike those of the other tests: no byte is known yet."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(random.Random(request.node.name).randbytes(_SIZE))
    (folder / "config.json").write_text("{}")
    return folder


def machine_of(server: HubServer, home: Path, **environment: str) -> StockClient:
    return StockClient(server, home, server.person("alice").write_token, environment)


def assert_whole(server: HubServer, repo_id: str, folder: Path, home: Path) -> None:
    """An empty cache gets every byte, and git has no complaint."""
    snapshot = Path(StockClient(server, home).python(DOWNLOAD, repo_id))
    found = digests(snapshot)
    found.pop(".gitattributes")
    assert found == digests(folder)
    assert_sound(server)


def test_a_server_killed_in_the_middle_of_an_lfs_upload_keeps_nothing_of_it(
    fragile: HubServer, folder: Path, tmp_path: Path
) -> None:
    machine = machine_of(fragile, tmp_path / "home", HF_HUB_DISABLE_XET="1")
    machine.python(CREATE, "alice/lfs")
    data = (folder / "weights.safetensors").read_bytes()
    described = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data)}
    headers = {"Authorization": f"Bearer {machine.token}"}
    batch = f"{fragile.url}/alice/lfs.git/info/lfs/objects/batch"

    def actions(operation: str) -> dict[str, dict[str, str]]:
        body = {"operation": operation, "objects": [described]}
        answer = httpx.post(batch, json=body, headers=headers).json()["objects"][0]
        found: dict[str, dict[str, str]] = answer.get("actions", {})
        return found

    href = urlsplit(actions("upload")["upload"]["href"])
    with socket.create_connection(("127.0.0.1", fragile.port)) as connection:
        start = f"PUT {href.path}?{href.query} HTTP/1.1\r\nHost: {href.netloc}\r\n"
        connection.sendall(f"{start}Content-Length: {len(data)}\r\n\r\n".encode())
        connection.sendall(data[: _SIZE // 2])
        time.sleep(0.3)
        fragile.kill()

    fragile.start()
    assert machine.python(FILES, "alice/lfs") == [".gitattributes"]
    assert "upload" in actions("upload"), "the object is not there"
    assert actions("download") == {}
    machine.python(UPLOAD, "alice/lfs", folder)
    assert_whole(fragile, "alice/lfs", folder, tmp_path / "reader")


@pytest.mark.parametrize("share", [0.3, 0.8], ids=["early", "late"])
def test_a_server_killed_in_the_middle_of_a_xet_upload_takes_it_again_from_the_same_cache(
    share: float, fragile: HubServer, folder: Path, tmp_path: Path
) -> None:
    repo_id = f"alice/xet-{share}"
    machine_of(fragile, tmp_path / "home").python(CREATE, repo_id)
    reached = threading.Event()
    with CountingProxy(fragile.port) as proxy:
        token = fragile.person("alice").write_token
        machine = StockClient(fragile, tmp_path / "home", token, endpoint=proxy.url)

        def note(total: int) -> None:
            if total > share * _SIZE:
                reached.set()

        proxy.on_bytes_up = note
        with machine.start_python(UPLOAD, repo_id, folder) as upload:
            assert reached.wait(60)
            fragile.kill()
            upload.kill()

        fragile.start()
        direct = machine_of(fragile, tmp_path / "home")
        assert direct.python(FILES, repo_id) == [".gitattributes"]
        machine.python(UPLOAD, repo_id, folder)
    assert_whole(fragile, repo_id, folder, tmp_path / "reader")


def test_what_was_acknowledged_survives_and_what_was_not_is_absent_or_whole(
    fragile: HubServer, tmp_path: Path
) -> None:
    machine = machine_of(fragile, tmp_path / "home")
    machine.python(CREATE, "alice/commits")
    acknowledged: list[tuple[str, str]] = []
    with machine.start_python(COMMITS, "alice/commits") as commits:
        assert commits.stdout is not None
        for line in commits.stdout:
            oid, name = line.decode().split()
            acknowledged.append((oid, name))
            if len(acknowledged) == 7:
                fragile.kill()
                break
        commits.kill()

    fragile.start()
    assert_sound(fragile)
    clone = tmp_path / "clone"
    machine.check("git", "clone", "--quiet", f"{fragile.url}/alice/commits", clone)
    history = machine.check("git", "log", "--format=%H", cwd=clone).split()
    # Newest first; the last two are the first commit of every repository and nothing else.
    oids = [oid for oid, _ in reversed(acknowledged)]
    assert history[-1 - len(oids) : -1] == oids
    assert len(history) <= len(oids) + 2, "at most one commit was on its way"
    files = machine.python(FILES, "alice/commits")
    for number, (_, name) in enumerate(acknowledged):
        assert name in files
        content = httpx.get(f"{fragile.url}/alice/commits/resolve/main/{name}").content
        assert content == str(number).encode() * (600_000 if number % 3 == 2 else 1)
    machine.python(
        """
        from huggingface_hub import HfApi
        HfApi().upload_file(
            path_or_fileobj=b"after", path_in_repo="after.txt", repo_id="alice/commits"
        )
        """
    )


def test_a_folder_is_whole_when_the_server_is_killed_right_after_the_answer(
    fragile: HubServer, folder: Path, tmp_path: Path
) -> None:
    machine = machine_of(fragile, tmp_path / "home")
    machine.python(CREATE, "alice/acknowledged")
    machine.python(UPLOAD, "alice/acknowledged", folder)
    fragile.kill()
    fragile.start()
    assert_whole(fragile, "alice/acknowledged", folder, tmp_path / "reader")


def test_every_process_ends_with_the_main_one_and_the_next_start_works(fragile: HubServer) -> None:
    token = fragile.person("alice").write_token
    fragile.kill_main_process()
    fragile.start()
    headers = {"Authorization": f"Bearer {token}"}
    who = httpx.get(f"{fragile.url}/api/whoami-v2", headers=headers).json()
    assert who["name"] == "alice"
    fragile.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(fragile.url)
