"""A model that is ready and stays so while it is held, wherever it runs."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from gatehouse.engines.base import (
    EmbeddingRequest,
    Embeddings,
    GenerationRequest,
    ModelDescription,
    Prompt,
    SequenceOutput,
    TokenizedPrompt,
)
from gatehouse.inference.lifecycle.messages import NOBODY, Claim

Source = TypeVar("Source", contravariant=True)


class HeldModel(Protocol):
    """What the services ask of a model."""

    @property
    def description(self) -> ModelDescription: ...

    def generate(self, request: GenerationRequest) -> AsyncGenerator[SequenceOutput]:
        """One sequence's outputs; closing the generator early cancels it. Use with `aclosing`.

        Raises:
            GenerationRefused: The model cannot take this request.
            ModelOverloaded: Too many are waiting.
            GenerationFailed: It broke midway.
            HostLost: Whatever ran it has gone.
        """
        ...

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Vectors of texts, of a model whose description has `embeddings`.

        Raises as `generate` does.
        """
        ...

    async def tokenize(self, prompt: Prompt, priority: int = 0) -> TokenizedPrompt:
        """Read a prompt without running it. Raises as `generate` does.

        Those of a lower `priority` number are read first.
        """
        ...


class ModelProvider(Protocol[Source]):
    """Where models of one kind of source are held."""

    def hold(
        self,
        source: Source,
        wait_seconds: float,
        *,
        may_load: bool = True,
        claim: Claim = NOBODY,
    ) -> AbstractAsyncContextManager[HeldModel]:
        """Hold on to a model, making it ready first if it is not.

        Args:
            source: Which model.
            wait_seconds: How long to wait for it. What was begun goes on when the wait is over.
            may_load: Whether to make it ready at all.
            claim: Who is counted for it, and how much they may have under way.

        Raises:
            ModelLoading: It is not ready yet, or not loaded and may not be.
            ModelTimedOut: It is not ready after the longest wait that a caller may ask for.
            TooManyAtOnce: The caller has enough under way.
            ModelTooLarge: It can never be loaded here.
            ModelNotServable: It cannot be run; the message says why.
            HostLost: What should run it died meanwhile.
            SupervisorAbsent: Nobody can load anything.
        """
        ...
