"""The messages that hub workers, the supervisor, the fork server and model hosts exchange.

All ends are processes of one installation, started together: no version is negotiated.
"""

import msgspec

from gatehouse.engines.base import (
    EmbeddingRequest,
    Embeddings,
    EngineOptions,
    GenerationRequest,
    ModelDescription,
    Prompt,
    RefusalKind,
    SequenceOutput,
    TokenizedPrompt,
)

# Hub worker -> host. The worker chooses request ids; they are its own.


class Generate(msgspec.Struct, frozen=True, tag="generate"):
    request_id: int
    request: GenerationRequest


class Tokenize(msgspec.Struct, frozen=True, tag="tokenize"):
    """Read a prompt only; answered by `Tokenized` or `Refused`."""

    request_id: int
    prompt: Prompt
    priority: int = 0


class Embed(msgspec.Struct, frozen=True, tag="embed"):
    """Answered by `Embedded` or `Refused`."""

    request_id: int
    request: EmbeddingRequest


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    request_id: int


WorkerToHost = Generate | Tokenize | Embed | Cancel

# Host -> hub worker.


class Stepped(msgspec.Struct, frozen=True, tag="stepped"):
    """What one engine step gave for all sequences of this worker."""

    outputs: tuple[SequenceOutput, ...]


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The request was never started; or it was one for vectors, which broke."""

    request_id: int
    kind: RefusalKind
    message: str


class Tokenized(msgspec.Struct, frozen=True, tag="tokenized"):
    request_id: int
    prompt: TokenizedPrompt


class Embedded(msgspec.Struct, frozen=True, tag="embedded"):
    request_id: int
    embeddings: Embeddings


HostToWorker = Stepped | Tokenized | Embedded | Refused

# Host -> supervisor, one packet each. Closing this socket ends the host.


class HostReady(msgspec.Struct, frozen=True, tag="ready"):
    description: ModelDescription
    memory_bytes: int


class HostFailed(msgspec.Struct, frozen=True, tag="failed"):
    """The model could not be loaded; the host exits. The message is for the caller."""

    message: str


HostToSupervisor = HostReady | HostFailed

# Supervisor <-> fork server, one packet each.


class ForkHost(msgspec.Struct, frozen=True, tag="fork"):
    """Start a host; the packet also carries one descriptor: the host's end of its control socket.

    Attributes:
        socket_path: Where the host listens for hub workers.
        num_threads: Threads for operations of torch.
        num_cores: What else may compute with, if its threads wait patiently for one another.
        memory_limit_bytes: What the host may allocate on top of what the fork server has.
    """

    host_id: int
    engine: str
    folder: str
    socket_path: str
    num_threads: int
    num_cores: int
    memory_limit_bytes: int
    options: EngineOptions = EngineOptions()


class KillHost(msgspec.Struct, frozen=True, tag="kill"):
    """End a host at once; hosts that are gone already are ignored."""

    host_id: int


ToForkServer = ForkHost | KillHost


class HostForked(msgspec.Struct, frozen=True, tag="forked"):
    host_id: int
    pid: int


class HostExited(msgspec.Struct, frozen=True, tag="exited"):
    """`status` is an exit code, or minus the number of the signal that killed it."""

    host_id: int
    status: int


class ForkServerReady(msgspec.Struct, frozen=True, tag="fork_server_ready"):
    """The libraries are imported; forking is now cheap."""


FromForkServer = HostForked | HostExited | ForkServerReady
