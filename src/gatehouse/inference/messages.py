"""The messages between hub workers and the supervisor."""

from enum import StrEnum

import msgspec

from gatehouse.engines.base import ModelDescription
from gatehouse.engines.registry import EngineName


class ModelSource(msgspec.Struct, frozen=True):
    """A model at one commit, as a host loads it.

    Attributes:
        key: Tells models apart: the repository's internal id and the commit. One host per key.
        name: What people call it, for messages.
        folder: Where its files lie.
        weight_bytes: Size of its weights on disk.
    """

    key: str
    name: str
    folder: str
    weight_bytes: int
    engine: EngineName = EngineName.TEXT_GENERATION


class DeclineReason(StrEnum):
    TOO_LARGE = "too_large"
    NOT_SERVABLE = "not_servable"
    NOT_LOADED = "not_loaded"
    LOST = "lost"


class Acquire(msgspec.Struct, frozen=True, tag="acquire"):
    """Ask for a host and hold on to it. The worker chooses the ticket.

    Attributes:
        may_load: Whether to load the model if it is not.
    """

    ticket: int
    source: ModelSource
    may_load: bool = True


class Release(msgspec.Struct, frozen=True, tag="release"):
    """Let go of a host, or of the wish for one. What is loading goes on loading."""

    ticket: int


WorkerToSupervisor = Acquire | Release


class Granted(msgspec.Struct, frozen=True, tag="granted"):
    """The host stays until the ticket is released."""

    ticket: int
    socket_path: str
    description: ModelDescription


class Declined(msgspec.Struct, frozen=True, tag="declined"):
    """There is no host for this ticket, and the ticket is void."""

    ticket: int
    reason: DeclineReason
    message: str = ""
    needed_bytes: int = 0
    budget_bytes: int = 0


SupervisorToWorker = Granted | Declined
