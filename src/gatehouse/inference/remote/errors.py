"""What goes wrong between this hub and a server that runs a model for it.

None of the sentences quotes the server: what it says is for the log alone.
"""

from gatehouse.core.errors import Conflict, Invalid, NotFound, Unavailable
from gatehouse.inference.errors import GenerationFailed


class RemoteEngineNotFound(NotFound):
    def __init__(self, name: str) -> None:
        super().__init__(f"No other server runs {name}.")


class RemoteEngineExists(Conflict):
    def __init__(self, name: str) -> None:
        super().__init__(f"Another server runs {name} already: remove that one first.")


class RemoteEngineInvalid(Invalid):
    """What an administrator gave cannot be registered."""


class KeyUnreadable(Unavailable):
    """The stored key was made with another data folder's secret, or changed."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The stored key of the server that runs {name} cannot be read: the data folder has "
            "another `secret.key` than when it was added. Remove the server and add it again."
        )


class RemoteUnreachable(Unavailable):
    """No connection, or the server says that it is not ready."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The server that runs {name} cannot be reached. Please try again later.")


class RemoteRefuses(GenerationFailed):
    """The server does not do what this hub was told that it does."""

    def __init__(self, why: str) -> None:
        super().__init__(f"Request failed during generation: {why}")
