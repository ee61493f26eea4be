"""The stock client's own xorbs and shards, caught on a loopback socket and read by ours."""

import hashlib
import os
import random
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gatehouse.storage.xet.disk import DiskXorbStore
from gatehouse.storage.xet.files import iter_file, verify_file
from gatehouse.storage.xet.shard import parse_shard

UPLOAD = """
import sys, warnings
warnings.simplefilter("ignore")
import hf_xet
_, address, *paths = sys.argv
for file in hf_xet.upload_files(paths, address, ("token", 4102444800), None, None, "model"):
    print(file.hash)
"""


class Catcher(ThreadingHTTPServer):
    """Says yes to every xorb and shard, and keeps them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), CatchingHandler)
        self.xorbs: dict[str, bytes] = {}
        self.shards: list[bytes] = []


class CatchingHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Catcher

    def do_GET(self) -> None:
        self.answer(404, b"{}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/v1/xorbs/"):
            self.server.xorbs[self.path.rpartition("/")[2]] = body
            self.answer(200, b'{"was_inserted": true}')
        elif self.path == "/v1/shards":
            self.server.shards.append(body)
            self.answer(200, b'{"result": 1}')
        else:
            self.answer(404, b"{}")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def catcher() -> Iterator[Catcher]:
    with Catcher() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def contents() -> list[bytes]:
    """Data for every scheme: noise, text, floats; and one file that shares most of another."""
    randomness = random.Random(1)
    noise = randomness.randbytes(700_000)
    text = b"".join(b"line %d of the text\n" % number for number in range(40_000))
    floats = struct.pack("<200000f", *(randomness.gauss(0, 0.02) for _ in range(200_000)))
    return [noise, text, floats, text[:600_000] + floats[300_000:] + noise[:100_000], b"small"]


def test_uploads_of_the_stock_client_are_proven_and_read_back(
    tmp_path: Path, catcher: Catcher
) -> None:
    paths = [tmp_path / f"file{index}" for index in range(len(contents()))]
    for path, data in zip(paths, contents(), strict=True):
        path.write_bytes(data)
    address = f"http://127.0.0.1:{catcher.server_port}"
    client = subprocess.run(
        [sys.executable, "-c", UPLOAD, address, *map(str, paths)],
        env={**os.environ, "HF_HOME": str(tmp_path / "home")},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert client.returncode == 0, client.stderr.decode()
    hashes = client.stdout.decode().split()

    store = DiskXorbStore(tmp_path / "store")
    for name, body in catcher.xorbs.items():
        assert store.put(name, body)[1]
    schemes = {body[4] for body in all_records(store, catcher)}
    assert schemes == {0, 1, 2}

    files = {
        file.file_hash: file for shard in catcher.shards for file in parse_shard(shard).files()
    }
    assert set(files) == set(hashes)
    for name, data in zip(hashes, contents(), strict=True):
        proven = verify_file(files[name], store.chunks)
        assert proven.size == len(data)
        assert files[name].sha256 == hashlib.sha256(data).hexdigest()
        assert b"".join(iter_file(store, proven.segments)) == data
        assert b"".join(iter_file(store, proven.segments, 2, len(data) - 1)) == data[2:-1]


def all_records(store: DiskXorbStore, catcher: Catcher) -> Iterator[bytes]:
    for name, body in catcher.xorbs.items():
        table = store.chunks(name)
        assert table is not None
        for chunk in range(len(table)):
            yield body[table.record_start(chunk) : table.record_start(chunk + 1)]
