"""An engine that computes nothing: fixed tokens, as fast as it can or at a given pace.

What it takes is next to nothing, so whatever a request takes beyond it is the way to it. Each token
carries the moment at which it was given, on the system's monotonic clock, as its log-probability:
every process of the machine can tell how old it is.
"""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from gatehouse.engines.base import (
    EmbeddingRequest,
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

PACE_FILE = "generation_config.json"
_NUM_PROMPT_TOKENS = 8


class Pace(msgspec.Struct, frozen=True):
    """How fast an engine goes; lies in the model's folder.

    Attributes:
        steps_per_second: None for as fast as it can.
        is_silent: After its first token a sequence gets no other, and does not end.
    """

    steps_per_second: float | None = None
    is_silent: bool = False


@dataclass(slots=True)
class _Sequence:
    request: GenerationRequest
    num_tokens: int = 0


@dataclass(eq=False)
class NullEngine:
    """`Engine` without a model. Steps are kept to the pace's own times, late or not."""

    pace: Pace
    _sequences: dict[int, _Sequence] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _next_step: float = 0.0

    @classmethod
    def load(cls, folder: Path) -> "NullEngine":
        return cls(msgspec.json.decode((folder / PACE_FILE).read_bytes(), type=Pace))

    def describe(self) -> ModelDescription:
        return ModelDescription(
            engine="null",
            architecture="NullForCausalLM",
            context_length=100_000,
            has_chat_template=False,
            eos_token_ids=(2,),
            dtype="float32",
            device="cpu",
            num_parameters=0,
        )

    def add(self, request_id: int, request: GenerationRequest | EmbeddingRequest) -> None:
        assert isinstance(request, GenerationRequest)
        with self._lock:
            self._sequences[request_id] = _Sequence(request)

    def tokenize(self, prompt: Prompt) -> TokenizedPrompt:
        text = prompt.text if isinstance(prompt, TextPrompt) else ""
        return TokenizedPrompt((PromptToken(1, text, 0, len(text)),), text)

    def cancel(self, request_id: int) -> None:
        with self._lock:
            self._sequences.pop(request_id, None)

    def has_work(self) -> bool:
        with self._lock:
            return any(map(self._wants_token, self._sequences.values()))

    def step(self) -> list[SequenceOutput]:
        self._wait()
        with self._lock:
            found = [
                self._next_token(request_id, sequence)
                for request_id, sequence in self._sequences.items()
                if self._wants_token(sequence)
            ]
            for output in found:
                if output.is_last:
                    del self._sequences[output.request_id]
        return found

    def memory_bytes(self) -> int:
        return 0

    def unload(self) -> None:
        self._sequences.clear()

    def _wants_token(self, sequence: _Sequence) -> bool:
        return not (self.pace.is_silent and sequence.num_tokens)

    def _wait(self) -> None:
        if self.pace.steps_per_second is None:
            return
        now = time.monotonic()
        # Steps that were missed are missed: it was not for the reader that they were late.
        self._next_step = max(self._next_step + 1 / self.pace.steps_per_second, now)
        time.sleep(self._next_step - now)

    def _next_token(self, request_id: int, sequence: _Sequence) -> SequenceOutput:
        sequence.num_tokens += 1
        number, wanted = sequence.num_tokens, sequence.request.max_new_tokens
        token = ScoredToken(1000 + number % 1000, " word", time.monotonic(), special=False)
        is_last = number >= wanted
        return SequenceOutput(
            request_id,
            (GeneratedToken(token, " word"),),
            Start(_NUM_PROMPT_TOKENS, None, (), 0.0) if number == 1 else None,
            Finish(FinishReason.LENGTH, number) if is_last else None,
        )
