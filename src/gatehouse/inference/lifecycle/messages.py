"""The messages between hub workers and the supervisor."""

from enum import StrEnum

import msgspec

from gatehouse.engines.base import EngineOptions, ModelDescription, Speculation
from gatehouse.engines.registry import EngineName


def described(options: EngineOptions) -> str:
    """What is not as it is by itself, for keys: empty for most models."""
    if options == EngineOptions():
        return ""
    more = "-adapters" if options.takes_adapters else ""
    if options.speculation is not Speculation.OFF:
        more += f"-{options.speculation}"
    return f":{options.runner}-{options.precision}-{options.weight_format}{more}"


class ModelSource(msgspec.Struct, frozen=True):
    """A model at one commit, as a host loads it.

    Attributes:
        key: Tells models apart: the repository's internal id, the engine, and a digest of the files
            that a host reads. One host per key; commits to other files, such as the card, leave it.
        name: What people call it, for messages.
        folder: Where its files lie.
        weight_bytes: Size of its weights on disk.
        cache_bytes: What its key-value cache may grow to, as far as its configuration tells.
        keeps_answers: False if its owner wants no answer of it in the response cache.
        commit_oid: The commit that was asked for.
        options: How it is to be run; part of the key.
        task: What its card or its files say that it does. No part of the key.
    """

    key: str
    name: str
    folder: str
    weight_bytes: int
    engine: EngineName = EngineName.TEXT_GENERATION
    cache_bytes: int = 0
    keeps_answers: bool = True
    commit_oid: str = ""
    options: EngineOptions = EngineOptions()
    task: str = "text-generation"

    @property
    def version(self) -> str:
        """The repository's internal id, how it is run, and the commit: tells answers apart."""
        return f"{self.key.partition(':')[0]}{described(self.options)}:{self.commit_oid}"

    def with_adapters(self, *, keeps_answers: bool = True) -> "ModelSource":
        """The same in a host of its own that takes adapters: the one without stays as it is.

        Args:
            keeps_answers: What the adapter's owner says about that.
        """
        options = msgspec.structs.replace(self.options, takes_adapters=True)
        key = self.key.removesuffix(described(self.options)) + described(options)
        # Room for their matrices, of which nobody knows how large they will be.
        cache_bytes = self.cache_bytes + self.weight_bytes // 4
        return msgspec.structs.replace(
            self,
            key=key,
            options=options,
            cache_bytes=cache_bytes,
            keeps_answers=self.keeps_answers and keeps_answers,
        )


class Claim(msgspec.Struct, frozen=True):
    """On whose behalf a model is held.

    Attributes:
        caller: A user or an address; empty if nobody is counted and nobody slowed down.
        num_concurrent: Calls that this caller may have under way, over all workers.
        call_id: Leases of one worker with the same number are one call; 0 is a call by itself.
    """

    caller: str = ""
    num_concurrent: int = 0
    call_id: int = 0


NOBODY = Claim()


class DeclineReason(StrEnum):
    TOO_LARGE = "too_large"
    TOO_MANY = "too_many"
    NOT_SERVABLE = "not_servable"
    LOADING = "loading"


class Acquire(msgspec.Struct, frozen=True, tag="acquire"):
    """Ask for a host and hold on to it. The worker chooses the ticket.

    Attributes:
        may_load: Whether to load the model if it is not.
        wait_seconds: How long to wait for it; what was begun goes on.
    """

    ticket: int
    source: ModelSource
    may_load: bool = True
    wait_seconds: float = 60.0
    caller: str = ""
    num_concurrent: int = 0
    call_id: int = 0


class Release(msgspec.Struct, frozen=True, tag="release"):
    """Let go of a host, or of the wish for one. What is loading goes on loading."""

    ticket: int


class Pin(msgspec.Struct, frozen=True, tag="pin"):
    """These models are to be in memory always, and no others; takes the place of the last one."""

    sources: tuple[ModelSource, ...]


class Inquire(msgspec.Struct, frozen=True, tag="inquire"):
    """Ask what is in memory. Answered by a `Report`."""

    ticket: int


WorkerToSupervisor = Acquire | Release | Pin | Inquire


class Granted(msgspec.Struct, frozen=True, tag="granted"):
    """The host stays until the ticket is released."""

    ticket: int
    socket_path: str
    description: ModelDescription


class Declined(msgspec.Struct, frozen=True, tag="declined"):
    """There is no host for this ticket, and the ticket is void.

    Attributes:
        estimated_seconds: Until the model may be ready, where it is loading.
    """

    ticket: int
    reason: DeclineReason
    message: str = ""
    needed_bytes: int = 0
    budget_bytes: int = 0
    estimated_seconds: float = 0.0


class PlacedModel(msgspec.Struct, frozen=True):
    """One model in memory, or on its way there.

    Attributes:
        version: The beginning of the commit that it was loaded for.
        reserved_bytes: What it counts for in the budget.
        resident_bytes: What its host really takes.
    """

    name: str
    version: str
    is_loaded: bool
    is_pinned: bool
    num_leases: int
    reserved_bytes: int
    resident_bytes: int


class Report(msgspec.Struct, frozen=True, tag="report"):
    """What is in memory now, and what happened since the supervisor started."""

    ticket: int
    models: tuple[PlacedModel, ...]
    budget_bytes: int
    num_waiting: int
    num_loads: int
    num_failed_loads: int
    num_crashes: int
    num_unloads: int


SupervisorToWorker = Granted | Declined | Report
