"""A model that says what a test wrote down, in the pieces that the test chose."""

import struct
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gatehouse.engines.base import (
    ChatTraits,
    EmbeddingRequest,
    Embeddings,
    Finish,
    FinishReason,
    GeneratedToken,
    GenerationRequest,
    ModelDescription,
    Prompt,
    PromptToken,
    ScoredToken,
    SequenceOutput,
    Start,
    TextPrompt,
    TokenizedPrompt,
)
from gatehouse.inference.errors import GenerationFailed
from gatehouse.inference.generation import Target, TextGeneration
from gatehouse.inference.lifecycle.messages import NOBODY, Claim, ModelSource
from gatehouse.inference.meter import Meter

NUM_PROMPT_TOKENS = 7
END = "</s>"


@dataclass
class ScriptedModel:
    """A `HeldModel`, and the `ModelProvider` that holds it.

    Attributes:
        pieces: Texts of the tokens, one after the other; the end of the sequence is added.
        reason: Why the sequence ends.
        special: Names of special tokens among the pieces.
        token_ids: Texts that are one token.
        breaks_after: Number of pieces after which the engine fails.
    """

    pieces: Sequence[str] = ("Hello", " there")
    traits: ChatTraits | None = None
    reason: FinishReason = FinishReason.EOS_TOKEN
    special: frozenset[str] = frozenset()
    token_ids: dict[str, int] = field(default_factory=dict)
    breaks_after: int | None = None
    requests: list[GenerationRequest] = field(default_factory=list)
    num_holds: int = 0

    @property
    def description(self) -> ModelDescription:
        return ModelDescription(
            engine="script",
            architecture="Script",
            context_length=1000,
            has_chat_template=True,
            eos_token_ids=(2,),
            dtype="float32",
            device="cpu",
            num_parameters=0,
            chat=self.traits,
        )

    @property
    def generation(self) -> TextGeneration:
        return TextGeneration(self)  # type: ignore[arg-type]

    @asynccontextmanager
    async def hold(
        self,
        _source: ModelSource,
        _wait_seconds: float,
        *,
        may_load: bool = True,
        claim: Claim = NOBODY,
    ) -> AsyncIterator["ScriptedModel"]:
        assert may_load
        self.num_holds += 1
        yield self

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[SequenceOutput]:
        self.requests.append(request)
        start: Start | None = Start(NUM_PROMPT_TOKENS, 1, (), 0.0)
        texts = list(self.pieces)
        if self.reason is FinishReason.EOS_TOKEN:
            texts.append(END)
        for place, text in enumerate(texts):
            if place == self.breaks_after:
                raise GenerationFailed("Request failed during generation: it broke")
            is_end = text == END
            is_special = is_end or text in self.special
            piece = "" if is_end or (is_special and not request.show_special) else text
            token = ScoredToken(place, text, -0.5, special=is_special)
            top = (token,) * request.num_top_tokens
            finish = Finish(self.reason, len(texts)) if place == len(texts) - 1 else None
            yield SequenceOutput(1, (GeneratedToken(token, piece, top),), start, finish)
            start = None

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        vectors = tuple(struct.pack("<2f", len(text), 1.0) for text in request.texts)
        return Embeddings(vectors, tuple(len(text) for text in request.texts))

    async def tokenize(self, prompt: Prompt, priority: int = 0) -> TokenizedPrompt:
        assert isinstance(prompt, TextPrompt)
        names = [prompt.text] if prompt.text in self.token_ids else list(prompt.text)
        tokens = tuple(
            PromptToken(self.token_ids.get(name, 3), name, place, place + 1)
            for place, name in enumerate(names)
        )
        return TokenizedPrompt(tokens, prompt.text)


def make_target() -> Target:
    """A target for any model; its version is its own."""
    source = ModelSource("1:aa", "someone/scripted", "/nowhere", 1)
    return Target("someone/scripted", "1:aa", source, Meter(), 1)
