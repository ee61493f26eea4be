"""The processes of one `gatehouse serve`: HTTP workers and the supervisor of model hosts."""

from granian import Granian
from granian.constants import Interfaces, Loops

from gatehouse.core.settings import Settings


def serve(settings: Settings) -> None:
    """Run until a signal stops it."""
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
