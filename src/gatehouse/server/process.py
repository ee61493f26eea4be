"""The processes of one `gatehouse serve`: HTTP workers and the supervisor of model hosts."""

import os
import shutil
import tempfile
from pathlib import Path

from granian import Granian
from granian.constants import Interfaces, Loops

from gatehouse.core.settings import Settings
from gatehouse.inference.launch import SupervisorProcess, count_cores, default_memory_budget
from gatehouse.inference.supervisor import SupervisorOptions


def serve(settings: Settings) -> None:
    """Run until a signal stops it."""
    # Not in the data folder: a Unix socket's path may have about a hundred characters.
    sockets = Path(tempfile.mkdtemp(prefix="gatehouse-"))
    try:
        options = _supervisor_options(settings, sockets)
        os.environ["GATEHOUSE_SUPERVISOR_SOCKET"] = options.socket_path
        with SupervisorProcess(options):
            _serve_http(settings)
    finally:
        shutil.rmtree(sockets, ignore_errors=True)


def _supervisor_options(settings: Settings, sockets: Path) -> SupervisorOptions:
    return SupervisorOptions(
        socket_path=str(sockets / "supervisor"),
        memory_budget_bytes=settings.model_memory_bytes or default_memory_budget(),
        idle_seconds=settings.model_idle_seconds,
        num_cores=count_cores(),
    )


def _serve_http(settings: Settings) -> None:
    Granian(
        "gatehouse.server.app:create",
        factory=True,
        interface=Interfaces.ASGI,
        loop=Loops.asyncio,
        address=settings.host,
        port=settings.port,
        workers=settings.workers,
        websockets=False,
        log_access=False,
    ).serve()
