"""Git's smart HTTP protocol, spoken by the real git program.

Takes and gives the bodies of requests and answers; who may ask is decided above.
Specification: git's `gitprotocol-http` manual page.
"""

import os
import signal
import subprocess
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import IO

import anyio
import anyio.to_thread
from anyio.abc import Process

from gatehouse.storage.git import program
from gatehouse.storage.git.errors import RepositoryUnavailable
from gatehouse.storage.git.pkt_line import FLUSH, encode
from gatehouse.storage.git.push import PushCheck
from gatehouse.storage.git.receive import PushResult, receive
from gatehouse.storage.git.request_body import spool

MAX_FETCH_BYTES = 16 * 1024 * 1024
MAX_PUSH_BYTES = 2 * 1024 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024


class GitService(StrEnum):
    """The value is what clients send as `service`, and the last part of the request's path."""

    UPLOAD_PACK = "git-upload-pack"
    RECEIVE_PACK = "git-receive-pack"

    @property
    def program_name(self) -> str:
        """The git command that serves it."""
        return self.value.removeprefix("git-")


async def advertise(path: Path, service: GitService, protocol: str | None = None) -> bytes:
    """The body of `GET info/refs?service=…`: refs, or the capabilities of protocol 2.

    Args:
        path: The repository's folder.
        service: What the client wants to do next.
        protocol: The client's `Git-Protocol` header.

    Raises:
        RepositoryUnavailable: Git could not read the repository.
    """
    arguments = (service.program_name, "--stateless-rpc", "--advertise-refs", path)
    result = await anyio.run_process(
        program.command(*arguments),
        stdin=subprocess.DEVNULL,
        env=program.environment(protocol),
        check=False,
    )
    if result.returncode != 0:
        raise RepositoryUnavailable("Git could not read the repository.")
    refs = result.stdout
    if refs.startswith(encode(b"version 2\n")):
        return refs
    return encode(f"# service={service}\n".encode()) + FLUSH + refs


async def upload_pack(
    path: Path,
    body: AsyncIterable[bytes],
    *,
    protocol: str | None = None,
    encoding: str | None = None,
    limit: int = MAX_FETCH_BYTES,
) -> AsyncGenerator[bytes]:
    """Take in the body of `POST git-upload-pack`; return the answer's chunks.

    Git starts with the first chunk that is asked for, runs no faster than chunks are taken, and is
    killed when the generator is closed or forgotten.

    Args:
        path: The repository's folder.
        body: As it arrives, chunked or not.
        protocol: The client's `Git-Protocol` header.
        encoding: The client's `Content-Encoding` header.
        limit: Bytes of the decoded body.

    Raises:
        Invalid, InvalidWire, RequestTooLarge: The body cannot be decoded within the limit.
    """
    request = await spool(body, path, encoding, limit)
    return _run_upload_pack(path, request, protocol)


async def _run_upload_pack(
    path: Path, request: IO[bytes], protocol: str | None
) -> AsyncGenerator[bytes]:
    # No task group here: a generator that is forgotten is closed by another task than it ran in.
    with request:
        process = await anyio.open_process(
            program.command("upload-pack", "--stateless-rpc", path),
            stdin=request,
            stderr=subprocess.DEVNULL,
            env=program.environment(protocol),
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            with suppress(anyio.EndOfStream):
                while True:
                    yield await process.stdout.receive(_CHUNK_BYTES)
        finally:
            await _end(process)


async def _end(process: Process) -> None:
    """Kill git and the programs it started, if they still run, and wait for it."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    with anyio.CancelScope(shield=True):
        await process.aclose()


async def receive_pack(
    path: Path,
    body: AsyncIterable[bytes],
    check: PushCheck,
    *,
    protocol: str | None = None,
    encoding: str | None = None,
    limit: int = MAX_PUSH_BYTES,
) -> PushResult:
    """Carry out `POST git-receive-pack`; return git's answer and the refs that moved.

    The whole push arrives before git starts; from then on it is carried out even if the client
    leaves. The answer is short, and is best sent after the caller has noted `moved`, so that a
    client that was told of success also sees it.

    Args:
        path: The repository's folder.
        body: As it arrives, chunked or not; empty, or only a flush packet, for git's probe.
        check: Called in a worker thread before any ref moves. A `GatehouseError` it raises refuses
            every ref and is shown to the pusher.
        protocol: The client's `Git-Protocol` header.
        encoding: The client's `Content-Encoding` header.
        limit: Bytes of the decoded body.

    Raises:
        Invalid, InvalidWire, RequestTooLarge: The body is not a push within the limit.
        RepositoryUnavailable: Git could not be run.
    """
    with await spool(body, path, encoding, limit) as request:
        return await anyio.to_thread.run_sync(receive, path, request, protocol, check)
