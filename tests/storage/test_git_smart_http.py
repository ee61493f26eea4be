"""The git program, as it is installed, against the smart HTTP driver on a loopback socket."""

import gc
import gzip
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest

from gatehouse.core.errors import Forbidden, Invalid
from gatehouse.storage.git import program
from gatehouse.storage.git.errors import InvalidWire, RepositoryUnavailable, RequestTooLarge
from gatehouse.storage.git.pkt_line import FLUSH, encode
from gatehouse.storage.git.push import NewBlob, Push
from gatehouse.storage.git.push_conversation import converse
from gatehouse.storage.git.receive import PushResult
from gatehouse.storage.git.records import Put, RefUpdate, Signature
from gatehouse.storage.git.repository import GitRepository
from gatehouse.storage.git.smart_http import GitService, advertise, receive_pack, upload_pack

MAIN = "refs/heads/main"
AUTHOR = Signature("Ada", "ada@example.org", datetime(2026, 1, 2, tzinfo=UTC))
WORK_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@b",
}


def allow(push: Push) -> None:
    """A check that has nothing against any push."""


@dataclass
class Hub:
    """What the test server answers from, and what it saw."""

    path: Path
    check: Callable[[Push], None] = allow
    results: list[PushResult] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    url: str = ""

    @property
    def repository(self) -> GitRepository:
        return GitRepository.open(self.path)


class Handler(BaseHTTPRequestHandler):
    """The three routes of smart HTTP, one event loop per request."""

    protocol_version = "HTTP/1.1"
    hub: ClassVar[Hub]

    def log_request(self, code: object = "-", size: object = "-") -> None:
        self.hub.requests.append(self.requestline)

    def do_GET(self) -> None:
        service = GitService(parse_qs(urlsplit(self.path).query)["service"][0])
        refs = anyio.run(advertise, self.hub.path, service, self.headers.get("Git-Protocol"))
        self.send_response(200)
        self.send_header("Content-Type", f"application/x-{service}-advertisement")
        self.send_header("Content-Length", str(len(refs)))
        self.end_headers()
        self.wfile.write(refs)

    def do_POST(self) -> None:
        service = GitService(self.path.rpartition("/")[2])
        answer = anyio.run(self.fetch if service is GitService.UPLOAD_PACK else self.push)
        self.send_response(200)
        self.send_header("Content-Type", f"application/x-{service}-result")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    async def fetch(self) -> bytes:
        chunks = await upload_pack(
            self.hub.path,
            self.body(),
            protocol=self.headers.get("Git-Protocol"),
            encoding=self.headers.get("Content-Encoding"),
        )
        return b"".join([chunk async for chunk in chunks])

    async def push(self) -> bytes:
        result = await receive_pack(
            self.hub.path,
            self.body(),
            self.hub.check,
            protocol=self.headers.get("Git-Protocol"),
            encoding=self.headers.get("Content-Encoding"),
        )
        self.hub.results.append(result)
        return result.answer

    async def body(self) -> AsyncIterator[bytes]:
        self.hub.requests.append(self.headers.get("Content-Encoding", "plain"))
        if self.headers.get("Transfer-Encoding") == "chunked":
            self.hub.requests.append("chunked")
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            yield self.rfile.read(int(self.headers["Content-Length"]))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    hub = Hub(tmp_path / "7")
    GitRepository.create(hub.path)
    handler = type("BoundHandler", (Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}/ns/name"
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.02))
        thread.start()
        yield hub
        server.shutdown()
        thread.join()


def git(folder: Path, *arguments: str, fails: bool = False) -> str:
    """Run git as a person would; return both its outputs."""
    result = subprocess.run(
        ["git", *arguments], cwd=folder, env=WORK_ENVIRONMENT, capture_output=True, text=True
    )
    output = result.stdout + result.stderr
    assert (result.returncode != 0) is fails, output
    return output


def fsck(path: Path) -> None:
    assert git(path, "fsck", "--strict", "--full", "--no-dangling") == ""


def commit(repository: GitRepository, path: str, content: bytes) -> str:
    parent = repository.resolve("main")
    change = Put(path, repository.write_blob(content))
    oid = repository.commit(parent, [change], "m", AUTHOR)
    repository.update_ref(MAIN, oid, parent)
    return oid


def clone(hub: Hub, folder: Path, *options: str) -> Path:
    folder.parent.mkdir(exist_ok=True)
    git(folder.parent, "clone", "-q", *options, hub.url, str(folder))
    return folder


def change(work: Path, name: str, content: bytes) -> str:
    """Commit one file in a clone; return the commit's oid."""
    (work / name).parent.mkdir(parents=True, exist_ok=True)
    (work / name).write_bytes(content)
    git(work, "add", "-A")
    git(work, "commit", "-q", "-m", f"Change {name}")
    return git(work, "rev-parse", "HEAD").strip()


@pytest.mark.parametrize("version", ["0", "1", "2"])
def test_clone_fetch_and_push_in_every_protocol(hub: Hub, tmp_path: Path, version: str) -> None:
    first = commit(hub.repository, "README.md", b"hello\n")
    work = clone(hub, tmp_path / "work", "-c", f"protocol.version={version}")
    assert (work / "README.md").read_bytes() == b"hello\n"
    pushed = change(work, "new.txt", b"from git\n")
    git(work, "push", "origin", "main")
    assert hub.repository.resolve("main") == pushed
    assert hub.results[-1].moved == (RefUpdate(MAIN, first, pushed),)
    second = commit(hub.repository, "api.txt", b"from the API\n")
    git(work, "pull", "-q", "--ff-only")
    assert git(work, "rev-parse", "HEAD").strip() == second
    fsck(hub.path)
    fsck(work)


def test_the_first_push_into_an_empty_repository(hub: Hub, tmp_path: Path) -> None:
    work = clone(hub, tmp_path / "work")
    git(work, "checkout", "-q", "-B", "main")
    oid = change(work, "f", b"x")
    git(work, "push", "origin", "main", "HEAD:refs/heads/two", "HEAD:refs/tags/v1")
    assert hub.repository.resolve("two") == oid
    assert {update.ref for update in hub.results[-1].moved} == {
        MAIN, "refs/heads/two", "refs/tags/v1"
    }  # fmt: skip
    git(work, "push", "origin", ":two")
    assert hub.repository.resolve("two") is None
    assert hub.results[-1].moved == (RefUpdate("refs/heads/two", oid, None),)


def test_a_large_push_is_probed_and_chunked(hub: Hub, tmp_path: Path) -> None:
    commit(hub.repository, "a", b"a")
    work = clone(hub, tmp_path / "work")
    content = os.urandom(3 * 1024 * 1024)
    change(work, "big.bin", content)
    git(work, "push", "-q", "origin", "main")
    assert "chunked" in hub.requests
    assert hub.results[0] == PushResult(b"", (), None)
    fresh = clone(hub, tmp_path / "fresh")
    assert (fresh / "big.bin").read_bytes() == content


def test_gzipped_requests_are_understood(hub: Hub, tmp_path: Path) -> None:
    repository = hub.repository
    oid = commit(repository, "a", b"a")
    for number in range(60):
        branch_oid = repository.commit(oid, [], f"{number}", AUTHOR)
        repository.update_ref(f"refs/heads/b{number}", branch_oid, None)
    # 60 wants make git's own request long enough to be packed.
    work = clone(hub, tmp_path / "work")
    assert len(git(work, "branch", "-r").splitlines()) == 62
    assert "gzip" in hub.requests


def test_only_served_refs_are_shown_and_moved(hub: Hub, tmp_path: Path) -> None:
    oid = commit(hub.repository, "a", b"a")
    for ref in ("refs/pr/1", "refs/convert/parquet", "refs/tags/t", "refs/secret/x", "refs/stash"):
        git(hub.path, "update-ref", ref, oid)
    shown = {line.split("\t")[1] for line in git(tmp_path, "ls-remote", hub.url).splitlines()}
    assert shown == {"HEAD", MAIN, "refs/pr/1", "refs/convert/parquet", "refs/tags/t"}
    work = clone(hub, tmp_path / "work")
    for ref in ("refs/secret/y", "refs/notes/n", "refs/x"):
        git(work, "push", "origin", f"HEAD:{ref}", fails=True)
    assert hub.results[-1].moved == ()
    git(work, "push", "origin", f"HEAD:refs/heads/{oid}", fails=True)
    assert "looks like a commit" in str(hub.results[-1].refusal)


def test_a_refused_push_moves_nothing_and_says_why(hub: Hub, tmp_path: Path) -> None:
    before = commit(hub.repository, "a", b"a")
    work = clone(hub, tmp_path / "work")
    num_objects = git(hub.path, "count-objects", "-v")
    change(work, "b", b"unwanted")

    def refuse(push: Push) -> None:
        raise Forbidden("Not on my watch.\nReally.")

    hub.check = refuse
    output = git(work, "push", "origin", "main", "HEAD:refs/heads/other", fails=True)
    assert "remote: Not on my watch." in output
    assert "remote: Really." in output
    assert output.count("pre-receive hook declined") == 2
    assert isinstance(hub.results[-1].refusal, Forbidden)
    assert hub.results[-1].moved == ()
    assert hub.repository.resolve("main") == before
    assert hub.repository.resolve("other") is None
    # The quarantine is gone, with all that was in it.
    assert git(hub.path, "count-objects", "-v") == num_objects
    fsck(hub.path)


def test_the_check_sees_what_a_push_would_bring(hub: Hub, tmp_path: Path) -> None:
    commit(hub.repository, "old", b"old content")
    work = clone(hub, tmp_path / "work")
    change(work, "deleted again", b"still in the history")
    (work / "deleted again").unlink()
    change(work, "dir/new name\u00e9", b"12345")
    change(work, "copy of old", b"old content")
    seen: list[NewBlob] = []
    contents: list[bytes] = []
    paths: list[str] = []

    def look(push: Push) -> None:
        assert GitRepository.open(hub.path).peel_to_commit(push.updates[0].new_oid or "") is None
        seen.extend(push.new_blobs())
        contents.extend(blob.read() for blob in seen)
        paths.extend(entry.path for entry in push.tip_entries(push.updates[0]))

    hub.check = look
    git(work, "push", "origin", "main")
    assert {(blob.path, blob.size) for blob in seen} == {
        ("dir/new name\u00e9", 5), ("deleted again", 20)
    }  # fmt: skip
    assert sorted(contents) == [b"12345", b"still in the history"]
    assert paths == ["copy of old", "dir", "dir/new name\u00e9", "old"]


def test_a_check_may_stop_looking_early(hub: Hub, tmp_path: Path) -> None:
    work = clone(hub, tmp_path / "work")
    git(work, "checkout", "-q", "-B", "main")
    for number in range(3):
        change(work, f"f{number}", b"%d" % number)

    def look_once(push: Push) -> None:
        blobs = push.new_blobs()
        raise Invalid(f"Found {next(blobs).path}.")

    hub.check = look_once
    assert "remote: Found f" in git(work, "push", "origin", "main", fails=True)


def test_a_check_that_breaks_refuses_and_is_heard_of(hub: Hub, tmp_path: Path) -> None:
    oid = commit(hub.repository, "a", b"a")
    body, new_oid = push_body(hub, tmp_path / "work")

    def fail(push: Push) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        anyio.run(partial(receive_pack, hub.path, pieces(body), fail))
    assert hub.repository.resolve("main") == oid
    assert hub.repository.peel_to_commit(new_oid) is None
    assert leftovers(hub.path) == []
    result = anyio.run(partial(receive_pack, hub.path, pieces(body), allow))
    assert hub.repository.resolve("main") == new_oid
    assert result.moved == (RefUpdate(MAIN, oid, new_oid),)


def test_a_push_that_lost_the_race_moves_nothing(hub: Hub, tmp_path: Path) -> None:
    commit(hub.repository, "a", b"a")
    work = clone(hub, tmp_path / "work")
    change(work, "b", b"b")
    winners: list[str] = []

    def overtake(push: Push) -> None:
        winners.append(commit(GitRepository.open(hub.path), "c", b"faster"))

    hub.check = overtake
    output = git(work, "push", "origin", "main", fails=True)
    assert "remote rejected" in output
    assert hub.repository.resolve("main") == winners[0]
    assert hub.results[-1].moved == ()
    assert hub.results[-1].refusal is None
    fsck(hub.path)


def test_objects_that_fsck_refuses_are_refused(hub: Hub, tmp_path: Path) -> None:
    before = commit(hub.repository, "a", b"a")
    work = clone(hub, tmp_path / "work")
    blob = git(work, "rev-parse", "HEAD:a").strip()
    for name in (b".git", b"..", b".GIT", b"git~1"):
        tree = write_tree(work, b"100644 " + name + b"\0" + bytes.fromhex(blob))
        push_tree(work, tree)
    # What git takes and the commit API does not: such a path would hurt on another system.
    for name in (b"a\\b", b"z\xfc", b"tab\there"):
        tree = write_tree(work, b"100644 " + name + b"\0" + bytes.fromhex(blob))
        assert "remote: Invalid path" in push_tree(work, tree)
    assert hub.repository.resolve("main") == before
    fsck(hub.path)


def write_tree(work: Path, content: bytes) -> str:
    made = subprocess.run(
        ["git", "hash-object", "-t", "tree", "-w", "--stdin", "--literally"],
        cwd=work, env=WORK_ENVIRONMENT, input=content, capture_output=True, check=True,
    )  # fmt: skip
    return made.stdout.decode().strip()


def push_tree(work: Path, tree: str) -> str:
    oid = git(work, "commit-tree", tree, "-p", "origin/main", "-m", "odd").strip()
    return git(work, "push", "origin", f"{oid}:refs/heads/main", fails=True)


def test_a_branch_cannot_be_made_of_a_blob(hub: Hub, tmp_path: Path) -> None:
    commit(hub.repository, "a", b"a")
    work = clone(hub, tmp_path / "work")
    blob = git(work, "rev-parse", "HEAD:a").strip()
    git(work, "push", "origin", f"{blob}:refs/tags/blob", fails=True)
    assert "would not point at a commit" in str(hub.results[-1].refusal)


def test_a_path_with_odd_characters_on_the_servers_disk(hub: Hub, tmp_path: Path) -> None:
    odd = tmp_path / 'o:d"d \\ folder' / "1"
    odd.parent.mkdir()
    hub.path.rename(odd)
    hub.path = odd
    commit(hub.repository, "a", b"a")
    work = clone(hub, tmp_path / "work")
    oid = change(work, "b", b"b")
    contents: list[bytes] = []
    hub.check = lambda push: contents.extend(blob.read() for blob in push.new_blobs())
    git(work, "push", "origin", "main")
    assert hub.repository.resolve("main") == oid
    assert contents == [b"b"]


def test_a_stale_ref_lock_does_not_refuse_pushes_for_ever(hub: Hub, tmp_path: Path) -> None:
    commit(hub.repository, "a", b"a")
    work = clone(hub, tmp_path / "work")
    lock = hub.path / "refs/heads/main.lock"
    lock.touch()
    os.utime(lock, (0, 0))
    oid = change(work, "b", b"b")
    git(work, "push", "origin", "main")
    assert hub.repository.resolve("main") == oid


# Below, the driver is called with bytes, as no honest client would.


async def pieces(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def push_body(hub: Hub, work: Path, ref: str = MAIN) -> tuple[bytes, str]:
    """The bytes of a push of one new file to main, and the commit it brings."""
    clone(hub, work)
    old_oid = git(work, "rev-parse", "HEAD").strip()
    new_oid = change(work, "pushed", b"pushed")
    pack = subprocess.run(
        ["git", "pack-objects", "--revs", "--stdout", "-q"],
        cwd=work, env=WORK_ENVIRONMENT, input=f"{new_oid}\n^{old_oid}\n".encode(),
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    command = f"{old_oid} {new_oid} {ref}\0report-status".encode()
    return encode(command) + FLUSH + pack, new_oid


def leftovers(path: Path) -> list[str]:
    """Quarantines and locks that a push left behind."""
    found = list((path / "objects").glob("tmp_*")) + list(path.rglob("*.lock"))
    return [str(each.relative_to(path)) for each in found]


@pytest.mark.parametrize("body", [b"", b"garbage", b"0004", b"00", encode(b"a b c") + FLUSH])
def test_a_body_that_is_no_push_is_refused(hub: Hub, body: bytes) -> None:
    with pytest.raises(InvalidWire):
        anyio.run(partial(receive_pack, hub.path, pieces(body), allow))


def test_a_probe_is_answered_with_nothing(hub: Hub) -> None:
    result = anyio.run(partial(receive_pack, hub.path, pieces(FLUSH), allow))
    assert result == PushResult(b"", (), None)


def test_a_push_that_is_cut_short_moves_nothing(hub: Hub, tmp_path: Path) -> None:
    before = commit(hub.repository, "a", b"a")
    body, new_oid = push_body(hub, tmp_path / "work")
    result = anyio.run(partial(receive_pack, hub.path, pieces(body[:-30]), allow))
    assert b"unpack" in result.answer
    assert result.moved == ()
    assert hub.repository.resolve("main") == before
    broken = body[:-25] + b"\xff" + body[-24:]
    assert anyio.run(partial(receive_pack, hub.path, pieces(broken), allow)).moved == ()
    assert hub.repository.peel_to_commit(new_oid) is None
    fsck(hub.path)


def test_a_client_that_leaves_in_the_middle_starts_nothing(hub: Hub) -> None:
    async def leaving() -> AsyncIterator[bytes]:
        yield b"00"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        anyio.run(partial(receive_pack, hub.path, leaving(), allow))
    with pytest.raises(ConnectionError):
        anyio.run(partial(upload_pack, hub.path, leaving()))


def test_gzip_bombs_and_bad_gzip_are_refused(hub: Hub) -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    packed = gzip.compress(FLUSH)
    push = partial(receive_pack, hub.path, check=allow)
    with pytest.raises(RequestTooLarge):
        anyio.run(partial(push, pieces(bomb), encoding="gzip"))
    with pytest.raises(RequestTooLarge):
        anyio.run(partial(push, pieces(b"0" * 1001), limit=1000))
    for body in (packed[:-1], packed + b"x", b"0000", b""):
        with pytest.raises(InvalidWire):
            anyio.run(partial(push, pieces(body), encoding="gzip"))
    with pytest.raises(Invalid, match="not supported"):
        anyio.run(partial(push, pieces(FLUSH), encoding="br"))
    one_by_one = pieces(*(packed[i : i + 1] for i in range(len(packed))))
    assert anyio.run(partial(push, one_by_one, encoding="gzip")).answer == b""


def test_the_hook_must_be_a_program(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = commit(hub.repository, "a", b"a")
    body, _ = push_body(hub, tmp_path / "work")
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "pre-receive").touch(0o644)
    monkeypatch.setattr(program, "HOOKS_FOLDER", hooks)
    with pytest.raises(RepositoryUnavailable):
        anyio.run(partial(receive_pack, hub.path, pieces(body), allow))
    assert hub.repository.resolve("main") == before


@pytest.mark.parametrize("verdict", [b"", b"accept", b"refuse\n", b"yes\n", b"\n", b"accepted\n"])
def test_the_hook_takes_anything_but_a_clear_yes_for_no(verdict: bytes) -> None:
    assert run_hook(verdict) == 1


def test_the_hook_hands_over_and_accepts() -> None:
    assert run_hook(b"accept\n") == 0


def run_hook(verdict: bytes) -> int:
    """Run the pre-receive hook as receive-pack would, with `verdict` in its pipe."""
    asked, asks = os.pipe()
    reads, answers = os.pipe()
    os.write(answers, verdict)
    os.close(answers)
    shell = 'exec 8>"/dev/fd/$1" 9<"/dev/fd/$2"; exec "$3"'
    hook = str(program.HOOKS_FOLDER / "pre-receive")
    try:
        with subprocess.Popen(
            ["/bin/sh", "-c", shell, "sh", str(asks), str(reads), hook],
            stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, pass_fds=(asks, reads),
            env={"PATH": os.environ["PATH"], "GIT_QUARANTINE_PATH": "/q"},
        ) as process:  # fmt: skip
            process.communicate(b"old new ref\n")
        assert os.read(asked, 1000) == b"/q\nold new ref\n\n"
    finally:
        for descriptor in (asked, asks, reads):
            os.close(descriptor)
    return process.returncode


@pytest.mark.parametrize("when", ["before the question", "before the verdict"])
def test_a_hub_that_dies_lets_nothing_in(hub: Hub, tmp_path: Path, when: str) -> None:
    before = commit(hub.repository, "a", b"a")
    body, new_oid = push_body(hub, tmp_path / "work")
    request = tmp_path / "body"
    request.write_bytes(body)
    script = """
import os, sys, time
from pathlib import Path
from gatehouse.storage.git import push_conversation, receive
def sleep(*_):
    print("asked", flush=True)
    time.sleep(60)
if sys.argv[3] == "before the question":
    receive.converse = sleep
with open(sys.argv[2], "rb") as request:
    receive.receive(Path(sys.argv[1]), request, None, sleep)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script, str(hub.path), str(request), when], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"asked\n"
        process.send_signal(signal.SIGKILL)
    wait_for_the_end_of_git(hub.path)
    assert leftovers(hub.path) == []
    assert hub.repository.resolve("main") == before
    assert hub.repository.peel_to_commit(new_oid) is None
    fsck(hub.path)
    # The same push works afterwards.
    assert anyio.run(partial(receive_pack, hub.path, pieces(body), allow)).moved
    assert hub.repository.resolve("main") == new_oid


def test_git_is_killed_when_the_reader_leaves(hub: Hub) -> None:
    repository = hub.repository
    for number in range(4):
        commit(repository, f"f{number}", os.urandom(2_000_000))
    oid = repository.resolve("main")
    request = encode(f"want {oid} side-band-64k\n".encode()) + FLUSH + encode(b"done\n")

    async def leave() -> int:
        chunks = await upload_pack(hub.path, pieces(request))
        assert await anext(chunks)
        num_running = len(processes(hub.path))
        await chunks.aclose()
        return num_running

    assert anyio.run(leave) >= 1
    wait_for_the_end_of_git(hub.path)


def test_git_is_killed_when_the_reader_is_forgotten(hub: Hub) -> None:
    oid = commit(hub.repository, "f", os.urandom(4_000_000))
    request = encode(f"want {oid} side-band-64k\n".encode()) + FLUSH + encode(b"done\n")

    async def forget() -> None:
        with anyio.move_on_after(0.3):
            async for _ in await upload_pack(hub.path, pieces(request)):
                await anyio.sleep(60)
        assert processes(hub.path)
        gc.collect()
        await anyio.sleep(0.1)

    anyio.run(forget)
    wait_for_the_end_of_git(hub.path)


def wait_for_the_end_of_git(path: Path) -> None:
    """Wait until no program serves `path`, also one whose parent was killed."""
    deadline = time.monotonic() + 10
    while processes(path) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes(path) == []


def processes(path: Path) -> list[bytes]:
    """Command lines of the programs that were started on `path`."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            line = file.read_bytes()
            if bytes(path) in line:
                found.append(line)
    return found


def test_refs_that_moved_and_moved_on_are_reported(hub: Hub) -> None:
    first = commit(hub.repository, "a", b"a")
    second = commit(hub.repository, "b", b"b")
    commit(hub.repository, "c", b"somebody else, a moment later")
    update = f"{first} {second} {MAIN}\n".encode()
    verdicts = io.BytesIO()
    reported = io.BytesIO(b"\n" + update + b"\n" + update)
    assert converse(hub.path, reported, verdicts, allow).moved == (RefUpdate(MAIN, first, second),)
    silent = io.BytesIO(b"\n" + update + b"\n")
    assert converse(hub.path, silent, io.BytesIO(), allow).moved == ()


@pytest.mark.parametrize("num_lines", [0, 1, 2])
def test_half_a_question_is_not_judged(hub: Hub, num_lines: int) -> None:
    lines = [b"\n", b"%b %b %b\n" % (b"0" * 40, b"1" * 40, MAIN.encode())]
    verdicts = io.BytesIO()
    assert converse(hub.path, io.BytesIO(b"".join(lines[:num_lines])), verdicts, allow).moved == ()
    assert verdicts.getvalue() == b""


def test_a_quarantine_elsewhere_is_refused(hub: Hub, tmp_path: Path) -> None:
    line = b"%b %b %b\n" % (b"0" * 40, b"1" * 40, MAIN.encode())
    questions = io.BytesIO(bytes(tmp_path) + b"\n" + line + b"\n")
    outcome = converse(hub.path, questions, io.BytesIO(), allow)
    assert isinstance(outcome.refusal, RepositoryUnavailable)


def test_settings_of_the_machine_do_not_reach_git(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(hub.repository, "a", b"a")
    planted = tmp_path / ".gitconfig"
    planted.write_text("[uploadpack]\n\thideRefs = refs/heads\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(planted))
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    refs = anyio.run(advertise, hub.path, GitService.UPLOAD_PACK, None)
    assert refs.startswith(b"001e# service=git-upload-pack\n0000")
    assert b" refs/heads/main\n" in refs


@pytest.mark.parametrize("protocol", ["version=9", "version=2\nx", "version=2:evil", "$(id)", ""])
def test_an_unknown_protocol_is_ignored(hub: Hub, protocol: str) -> None:
    assert "GIT_PROTOCOL" not in program.environment(protocol)
    refs = anyio.run(advertise, hub.path, GitService.UPLOAD_PACK, protocol)
    assert refs.startswith(b"001e# service=git-upload-pack\n0000")
    assert anyio.run(advertise, hub.path, GitService.UPLOAD_PACK, "version=2").startswith(
        b"000eversion 2\n"
    )


def test_a_repository_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(RepositoryUnavailable):
        anyio.run(advertise, tmp_path / "absent", GitService.UPLOAD_PACK, None)
