"""What a server that runs a model for us is, and what it says while it does.

Knows no sockets: `inference.remote` sends the calls and reads the answers.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from gatehouse.core.errors import GatehouseError
from gatehouse.engines.base import (
    FinishReason,
    GenerationRequest,
    Prompt,
    ScoredToken,
    TokenizedPrompt,
)

# A server that does not name the ids of its tokens: no vocabulary has this one by agreement, so
# whoever reads ids of a remote model reads zeros only.
UNKNOWN_TOKEN_ID = 0


class RemoteKind(StrEnum):
    """The language that the server speaks."""

    OPENAI = "openai"
    TGI = "tgi"


class RouteAbilities(msgspec.Struct, frozen=True):
    """What one of OpenAI's two routes takes beyond the prompt.

    Attributes:
        logprobs: It gives the tokens and their log-probabilities.
        usage: It takes `stream_options` and then ends with the numbers of tokens.
    """

    logprobs: bool = False
    usage: bool = False


class RemoteAbilities(msgspec.Struct, frozen=True):
    """What was found when the server was asked. None stands for a route that it does not have."""

    text: RouteAbilities | None = None
    chat: RouteAbilities | None = None
    can_tokenize: bool = False


class UpstreamMalformed(GatehouseError):
    """The server sent what its language does not have. The message is for the log."""


class UpstreamFailed(GatehouseError):
    """The server said in its stream that the generation broke. The message is for the log."""


@dataclass(frozen=True, slots=True)
class Call:
    """A POST to the server: a path below its address, and a JSON body."""

    path: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of tokens, as the server counted them; None where it did not say."""

    num_prompt_tokens: int | None = None
    num_generated_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class DeltaToken:
    """A token, and the likeliest ones of its step, best first."""

    token: ScoredToken
    top: tuple[ScoredToken, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """What one event of the stream adds.

    Attributes:
        text: The text that it adds to the answer.
        tokens: The tokens behind it; empty if the server does not tell.
        finish: Why the answer ended, in the event that says so.
    """

    text: str = ""
    tokens: tuple[DeltaToken, ...] = ()
    finish: FinishReason | None = None
    counts: Counts | None = None


class DeltaReader(Protocol):
    """Reads the events of one answer, in order."""

    def read(self, event: bytes) -> Delta:
        """Read the JSON of one event.

        Raises:
            UpstreamMalformed: It is not what the language has.
            UpstreamFailed: It is an error.
        """
        ...


class Dialect(Protocol):
    """Speaks to one server about one model."""

    def generation(self, request: GenerationRequest, seed: int | None) -> Call:
        """The call that streams an answer. `seed` is None for greedy decoding.

        Raises:
            RequestRefused: The server's language cannot say this request.
        """
        ...

    def reader(self, request: GenerationRequest) -> DeltaReader: ...

    def tokenization(self, prompt: Prompt) -> Call:
        """The call that reads a prompt.

        Raises:
            RequestRefused: The server cannot.
        """
        ...

    def read_tokens(self, prompt: Prompt, answer: bytes) -> TokenizedPrompt:
        """Raises `UpstreamMalformed`."""
        ...
