"""The writing half of the CAS routes, below `casUrl`: xorbs and shards.

Unknown CAS routes answer 404, which clients read as "not supported".
"""

import json
import queue
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import anyio
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from gatehouse.core.errors import GatehouseError
from gatehouse.http.bodies import copy_body, read_body
from gatehouse.http.context import Services, ServicesDependency
from gatehouse.http.errors import DISK_FULL, is_disk_full
from gatehouse.http.gates import Admitted, CapabilityGate, PublicGate
from gatehouse.identity.actors import Actor
from gatehouse.identity.capabilities import Purpose
from gatehouse.identity.permissions import Permission
from gatehouse.repos.xet import Writer

router = APIRouter()

_MAX_XORB = 72 * 1024 * 1024
_MAX_SHARD = 64 * 1024 * 1024
_HEARTBEAT_SECONDS = 10.0

_Admitted = Annotated[
    Admitted, Depends(CapabilityGate(Permission.REPO_WRITE, frozenset({Purpose.XET_WRITE})))
]
_Anybody = Annotated[Actor, Depends(PublicGate("a sink: the body is dropped"))]
_CAS = "/xet/{scope:name}"


@router.post(_CAS + "/v1/xorbs/{prefix}/{xorb_hash}")
async def put_xorb(
    xorb_hash: str, request: Request, services: ServicesDependency, admitted: _Admitted
) -> dict[str, bool]:
    with _temporary(services.incoming) as path:
        with path.open("wb") as file:
            await copy_body(request, file.write, _MAX_XORB)
        is_new = await run_sync(services.xet.put_xorb, _writer(admitted), xorb_hash, path)
    return {"was_inserted": is_new}


@router.post(_CAS + "/v1/xorb-grants/{prefix}/{xorb_hash}")
def grant_xorb(xorb_hash: str, services: ServicesDependency, admitted: _Admitted) -> Response:
    """200 says "held already, send nothing"; 404 says "upload it to me"."""
    if services.xet.holds_xorb(_writer(admitted), xorb_hash):
        return JSONResponse({})
    return JSONResponse({"error": "Upload the xorb directly."}, 404)


@router.get(_CAS + "/v1/chunks/{prefix}/{chunk_hash}")
def known_chunk(_admitted: _Admitted) -> Response:
    """No deduplication across repositories: it would tell who holds what."""
    return JSONResponse({"error": "This chunk is not offered for reuse."}, 404)


@router.post(_CAS + "/v2/shards")
async def put_shard(
    request: Request, services: ServicesDependency, admitted: _Admitted
) -> StreamingResponse:
    body = await read_body(request, _MAX_SHARD)
    events = _prove(services, _writer(admitted), body)
    return StreamingResponse(events, media_type="application/x-ndjson")


@router.post(_CAS + "/v1/shards")
async def put_shard_v1(
    request: Request, services: ServicesDependency, admitted: _Admitted
) -> dict[str, int]:
    body = await read_body(request, _MAX_SHARD)
    is_new = await run_sync(services.xet.put_shard, _writer(admitted), body, _ignore)
    return {"result": int(is_new)}


@router.post("/v1/telemetry")
@router.post(_CAS + "/v1/telemetry")
def telemetry(_actor: _Anybody) -> Response:
    return Response()


async def _prove(services: Services, writer: Writer, body: bytes) -> AsyncIterator[bytes]:
    """Prove a shard in a thread, and say often enough that it goes on.

    Clients give up on a stream that stays silent.
    """
    progress: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
    finished = anyio.Event()
    outcome: dict[str, Any] = {}

    async def work() -> None:
        try:
            await run_sync(services.xet.put_shard, writer, body, lambda *at: progress.put(at))
            outcome.update(type="result", result=1)
        except GatehouseError as error:
            outcome.update(type="error", message=error.message, retryable=False)
        except OSError as error:
            if not is_disk_full(services, error):
                raise
            outcome.update(type="error", message=DISK_FULL, retryable=False)
        finally:
            finished.set()

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        verified, total = 0, 0
        while not finished.is_set():
            with anyio.move_on_after(_HEARTBEAT_SECONDS):
                await finished.wait()
            while not progress.empty():
                verified, total = progress.get()
            yield _line({"type": "validating", "verified": verified, "total": total})
        yield _line(outcome)


def _line(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode() + b"\n"


def _writer(admitted: Admitted) -> Writer:
    return Writer(admitted.actor, admitted.repository)


def _ignore(_done: int, _total: int) -> None:
    return


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    with tempfile.NamedTemporaryFile(dir=folder, prefix="xorb-") as file:
        yield Path(file.name)
