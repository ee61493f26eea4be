"""Start the listener as a process of its own, beside the hub."""

from gatehouse.core.settings import Settings
from gatehouse.inference.lifecycle.launch import TiedProcess
from gatehouse.server.drop_in.options import DropInOptions

# Where a hub that listens on every address is reached from its own machine.
_OWN_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - only compared


class DropInProcess(TiedProcess):
    """A running listener."""

    def __init__(self, options: DropInOptions) -> None:
        super().__init__("gatehouse.server.drop_in.listener", options)


def drop_in_options(settings: Settings) -> DropInOptions | None:
    """What the settings say of the listener; None if there is to be none."""
    if settings.drop_in_port is None:
        return None
    return DropInOptions(
        host=settings.drop_in_host,
        port=settings.drop_in_port,
        hub_host=_OWN_ADDRESS.get(settings.host, settings.host),
        hub_port=settings.port,
        names=settings.drop_in_hosts,
        data_dir=str(settings.data_dir.resolve()),
    )
