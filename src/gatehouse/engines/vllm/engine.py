"""Text generation by a vLLM of our own: an `Engine` that reads prompts and leaves the rest to it.

What a token's text is, where a sequence ends and what is refused is decided here, as by the other
engines; vLLM schedules, computes and samples.
"""

import logging
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from gatehouse.core.errors import GatehouseError
from gatehouse.engines.base import (
    EmbeddingRequest,
    Failure,
    Finish,
    FinishReason,
    GeneratedToken,
    GenerationRequest,
    ModelDescription,
    Prompt,
    RefusalKind,
    SequenceOutput,
    Start,
    TokenizedPrompt,
)
from gatehouse.engines.llm.generation_defaults import GenerationDefaults
from gatehouse.engines.llm.inbox import Inbox
from gatehouse.engines.remote.base import UpstreamFailed, UpstreamMalformed
from gatehouse.engines.text.model_text import ModelFacts, ModelText
from gatehouse.engines.text.prompts import refuse_invalid
from gatehouse.engines.text.sequence import Sequence
from gatehouse.engines.vllm.client import Arrival, End, StreamClient
from gatehouse.engines.vllm.completions import (
    ReadToken,
    completion,
    read_event,
    refuse_unknown,
)

# New requests wake a step that waits.
_STEP_SECONDS = 1.0
_DONE = b"[DONE]"

_log = logging.getLogger(__name__)


class VllmLost(GatehouseError):
    """It ended, or cannot be reached; the host ends with it, and is started anew when asked."""


class Process(Protocol):
    """The vLLM that runs the model."""

    def is_well(self) -> bool: ...

    def memory_bytes(self) -> int: ...

    def close(self) -> None: ...


@dataclass(eq=False, slots=True)
class _Running:
    """A request that vLLM has."""

    text: Sequence
    prompt_scores: list[ReadToken] = field(default_factory=list)
    has_started: bool = False

    @property
    def awaits_scores(self) -> bool:
        is_wanted = self.text.request.prompt_details
        return is_wanted and len(self.prompt_scores) < len(self.text.prompt_ids)


class VllmTextGeneration:
    """An `Engine` over a vLLM that answers.

    Args:
        process: Ended with the engine.
        client: Of that vLLM.
        tokenizer: Of `transformers`; shared by all threads.
        defaults: What holds for sequences whose requests say nothing.
        facts: For `describe`.
    """

    def __init__(
        self,
        process: Process,
        client: StreamClient,
        tokenizer: Any,
        defaults: GenerationDefaults,
        facts: ModelFacts,
    ) -> None:
        self._process = process
        self._client = client
        self._defaults = defaults
        self._text = ModelText(tokenizer, facts, defaults.vocabulary_size, defaults.eos_token_ids)
        self._inbox = Inbox()
        self._running: dict[int, _Running] = {}

    def describe(self) -> ModelDescription:
        return self._text.describe()

    def add(self, request_id: int, request: GenerationRequest | EmbeddingRequest) -> None:
        if isinstance(request, EmbeddingRequest):
            raise refuse_invalid("the model generates text and gives no embeddings")
        refuse_unknown(request.sampling)
        self._inbox.add(self._text.reader.read(request_id, request))
        self._client.wake()

    def tokenize(self, prompt: Prompt) -> TokenizedPrompt:
        return self._text.prompts.tokenize(prompt)

    def cancel(self, request_id: int) -> None:
        self._inbox.cancel(request_id)
        self._client.wake()

    def has_work(self) -> bool:
        return bool(self._running or self._inbox)

    def step(self) -> list[SequenceOutput]:
        """Hand on what has come of any sequence; waits a moment if nothing has.

        Raises:
            VllmLost: Nothing more will come of any.
        """
        added, cancelled = self._inbox.take()
        for sequence in added:
            self._begin(sequence)
        for request_id in cancelled & self._running.keys():
            self._remove(request_id)
        if not self._running:
            return []
        outputs = [self._read(arrival) for arrival in self._client.take(_STEP_SECONDS)]
        return [output for output in outputs if output is not None]

    def memory_bytes(self) -> int:
        return self._process.memory_bytes()

    def unload(self) -> None:
        self._inbox.clear()
        self._running.clear()
        self._text.reader.close()
        self._client.close()
        self._process.close()

    def _begin(self, sequence: Sequence) -> None:
        ends = frozenset(self._defaults.eos_token_ids) | sequence.ends.keys()
        sequence.eos_token_ids = ends
        sequence.started_at = time.monotonic()
        self._running[sequence.request_id] = _Running(sequence)
        self._client.start(sequence.request_id, completion(sequence, self._defaults))

    def _remove(self, request_id: int) -> None:
        del self._running[request_id]
        self._client.cancel(request_id)
        self._inbox.note_started(request_id)

    def _read(self, arrival: Arrival) -> SequenceOutput | None:
        running = self._running.get(arrival.request_id)
        if running is None or arrival.event == _DONE:
            return None
        if isinstance(arrival.event, End):
            return self._end(running, arrival.event)
        try:
            event = read_event(arrival.event, running.text.request.num_top_tokens)
        except (UpstreamMalformed, UpstreamFailed) as error:
            return self._fail(running, f"vLLM failed: {error.message}")
        self._inbox.note_started(arrival.request_id)
        return self._advance(running, event.tokens)

    def _advance(self, running: _Running, read: tuple[ReadToken, ...]) -> SequenceOutput | None:
        """Add what an event brought, and end the sequence if it holds its last token."""
        text, request_id = running.text, running.text.request_id
        if running.awaits_scores:
            num_missing = len(text.prompt_ids) - len(running.prompt_scores)
            running.prompt_scores += read[:num_missing]
            read = read[num_missing:]
        if running.awaits_scores or not (read or text.max_new_tokens == 0):
            return None
        tokens, finish = [], None
        if text.max_new_tokens == 0:
            read, finish = (), Finish(FinishReason.LENGTH, 0)
        for token in read:
            piece, reason = text.take(token.id)
            scored = self._text.texts.scored(token.id, token.logprob)
            tokens.append(GeneratedToken(scored, piece, self._text.texts.top(token.top)))
            if reason is not None:
                finish = Finish(reason, text.num_generated)
                break
        start = None if running.has_started else self._start(running)
        if finish is not None:
            self._remove(request_id)
        return SequenceOutput(request_id, tuple(tokens), start, finish)

    def _start(self, running: _Running) -> Start:
        running.has_started = True
        text, scores = running.text, running.prompt_scores
        details = tuple(self._text.texts.scored(score.id, score.logprob) for score in scores)
        top = tuple(self._text.texts.top(score.top) for score in scores)
        waited = text.started_at - text.queued_at
        return Start(len(text.prompt_ids), text.seed, details, waited, top)

    def _end(self, running: _Running, end: End) -> SequenceOutput:
        """What it means that a stream is over before its sequence is."""
        if end is End.BROKEN:
            raise VllmLost("vLLM has gone.")
        if end is End.REFUSED:
            return self._fail(running, "vLLM refused the request")
        return self._fail(running, "vLLM ended the answer too early")

    def _fail(self, running: _Running, reason: str) -> SequenceOutput:
        """Give one sequence up.

        Raises:
            VllmLost: None of the others will get more either.
        """
        if not self._process.is_well():
            raise VllmLost("vLLM has broken.")
        _log.warning("A sequence failed: %s.", reason)
        request_id = running.text.request_id
        self._remove(request_id)
        message = "Request failed during generation: vLLM, which runs the model, gave it up"
        return SequenceOutput(request_id, failure=Failure(RefusalKind.GENERATION, message))
