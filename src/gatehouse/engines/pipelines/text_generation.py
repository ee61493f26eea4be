"""Text generation with any model of `transformers`: our step loop over its forward pass.

Every running sequence has its own key-value cache and gets one token per step, in turn; where an
encoder reads the prompt, that is a step of its own. Knows tokens and text; does not know the shapes
of any web surface.
"""

import gc
import itertools
import logging
import threading
import time
from pathlib import Path
from typing import Any

import torch

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
    ScoredToken,
    SequenceOutput,
    Start,
    TokenizedPrompt,
)
from gatehouse.engines.pipelines.decoding import (
    Choice,
    DecodingState,
    choose_next,
    prepare,
    score_prompt,
)
from gatehouse.engines.pipelines.loading import (
    described_device,
    load_language_model,
    num_logits,
)
from gatehouse.engines.pipelines.reading import reading_of
from gatehouse.engines.pipelines.token_budget import TokenBudget
from gatehouse.engines.pipelines.waiting_queue import WaitingQueue
from gatehouse.engines.text.cache_bounds import CACHE_BYTES, MAX_RUNNING
from gatehouse.engines.text.chat_traits import chat_traits
from gatehouse.engines.text.prompts import refuse_invalid
from gatehouse.engines.text.requests import RequestReader
from gatehouse.engines.text.sequence import Sequence
from gatehouse.engines.text.token_texts import TokenTexts

# How long a step waits when every running sequence waits for its grammar.
_GRAMMAR_WAIT_SECONDS = 0.02

_log = logging.getLogger(__name__)


class TextGenerationEngine:
    """An `Engine` over a loaded model and tokenizer."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._texts = TokenTexts(tokenizer)
        self._reading = reading_of(model, tokenizer)
        self._weight_bytes = sum(
            tensor.numel() * tensor.itemsize
            for tensor in itertools.chain(model.parameters(), model.buffers())
        )
        self.budget = TokenBudget(
            max(self._reading.context_length, CACHE_BYTES // max(1, self._reading.bytes_per_token))
        )
        self._reader = RequestReader(
            tokenizer,
            self._reading.prompts,
            self._reading.context_length,
            num_logits(model),
            self._eos_token_ids(),
            self._reading.lengths,
        )
        self._waiting = WaitingQueue()
        self._lock = threading.Lock()
        self._cancelled: set[int] = set()
        self._running: dict[int, Sequence] = {}
        self._decoding: dict[int, DecodingState] = {}
        self._forces_end = model.generation_config.forced_eos_token_id is not None
        # Of those whose prompt an encoder has read, and that have no token yet.
        self._encoded: dict[int, Start] = {}
        # Sets the fast tokenizer's truncation once; later calls then only read it, from any thread.
        tokenizer("")
        self._chat_traits = chat_traits(tokenizer, self._reading.prompts.chat)

    def describe(self) -> ModelDescription:
        return ModelDescription(
            engine="transformers",
            architecture=type(self._model).__name__,
            context_length=self._reading.context_length,
            has_chat_template=bool(self._tokenizer.chat_template),
            eos_token_ids=self._eos_token_ids(),
            dtype=str(self._model.dtype).removeprefix("torch."),
            device=described_device(self._model),
            num_parameters=self._model.num_parameters(),
            chat=self._chat_traits,
            can_infill=self._reading.can_infill,
            encoder_length=self._reading.encoder_length,
        )

    def add(self, request_id: int, request: GenerationRequest | EmbeddingRequest) -> None:
        if isinstance(request, EmbeddingRequest):
            raise refuse_invalid("the model generates text and gives no embeddings")
        if request.adapter is not None:
            raise refuse_invalid(
                "`adapter_id` needs the runner `openvino`, and this model is run by `transformers`"
            )
        self._waiting.push(self._reader.read(request_id, request))

    def tokenize(self, prompt: Prompt) -> TokenizedPrompt:
        return self._reading.prompts.tokenize(prompt)

    def cancel(self, request_id: int) -> None:
        if not self._waiting.remove(request_id):
            with self._lock:
                self._cancelled.add(request_id)

    def has_work(self) -> bool:
        return bool(self._waiting) or bool(self._running) or bool(self._cancelled)

    def step(self) -> list[SequenceOutput]:
        self._drop_cancelled()
        self._admit_one()
        with torch.inference_mode():
            advanced = [self._advance(sequence) for sequence in self._ready_sequences()]
        return [output for output in advanced if output is not None]

    def memory_bytes(self) -> int:
        return int(self._weight_bytes + self.budget.num_allocated * self._reading.bytes_per_token)

    def unload(self) -> None:
        self._waiting.clear()
        with self._lock:
            self._cancelled.clear()
        for sequence in list(self._running.values()):
            self._remove(sequence)
        self._reader.close()
        self._model = None
        gc.collect()

    def _eos_token_ids(self) -> tuple[int, ...]:
        eos = self._model.generation_config.eos_token_id
        return () if eos is None else tuple(eos) if isinstance(eos, list) else (eos,)

    def _drop_cancelled(self) -> None:
        with self._lock:
            cancelled, self._cancelled = self._cancelled, set()
        for request_id in cancelled & self._running.keys():
            self._remove(self._running[request_id])

    def _admit_one(self) -> None:
        """Let one waiting sequence in; reading more prompts would hold up the others too long."""
        if len(self._running) >= MAX_RUNNING:
            return
        sequence = self._waiting.pop(
            self._running, lambda first: self.budget.can_allocate(first.num_reserved)
        )
        if sequence is not None:
            self.budget.allocate(sequence.num_reserved)
            sequence.started_at = time.monotonic()

    def _remove(self, sequence: Sequence) -> None:
        del self._running[sequence.request_id]
        self._decoding.pop(sequence.request_id, None)
        self._encoded.pop(sequence.request_id, None)
        self.budget.deallocate(sequence.num_reserved)

    def _ready_sequences(self) -> list[Sequence]:
        """Those whose next token can be chosen now; others wait for their grammars."""
        running = list(self._running.values())
        ready = [sequence for sequence in running if sequence.is_ready()]
        if running and not ready:
            ready = [sequence for sequence in running if sequence.is_ready(_GRAMMAR_WAIT_SECONDS)]
        return ready

    def _advance(self, sequence: Sequence) -> SequenceOutput | None:
        """The sequence's next token; None where its prompt has only just been encoded."""
        try:
            decoding = self._decoding.get(sequence.request_id)
            if decoding is None:
                start: Start | None = self._start(sequence)
                if start is not None and self._reading.encoder_length is not None:
                    self._encoded[sequence.request_id] = start
                    return None
            else:
                start = self._encoded.pop(sequence.request_id, None)
            if sequence.max_new_tokens == 0:
                return self._finish_unstarted(sequence, start)
            decoding = decoding or self._decoding[sequence.request_id]
            choice = choose_next(self._model, decoding, sequence.request.num_top_tokens)
        # What torch and the model classes raise on numbers or shapes they cannot handle. One
        # sequence breaks; the others go on.
        except (RuntimeError, ValueError, IndexError, TypeError, ArithmeticError) as error:
            _log.warning("A sequence failed.", exc_info=error)
            self._remove(sequence)
            message = f"Request failed during generation: {type(error).__name__}"
            return SequenceOutput(
                sequence.request_id, failure=Failure(RefusalKind.GENERATION, message)
            )
        return self._take(sequence, start, choice)

    def _start(self, sequence: Sequence) -> Start:
        request = sequence.request
        details: tuple[ScoredToken, ...] = ()
        top: tuple[tuple[ScoredToken, ...], ...] = ()
        if request.prompt_details:
            scores = score_prompt(self._model, sequence.prompt_ids, request.num_top_tokens)
            pairs = zip(sequence.prompt_ids, scores, strict=True)
            details = tuple(
                self._texts.scored(token_id, score.logprob) for token_id, score in pairs
            )
            top = tuple(self._texts.top(score.top) for score in scores)
        if sequence.max_new_tokens > 0:
            decoding = prepare(
                self._model,
                sequence.prompt_ids,
                request.sampling,
                sequence.seed,
                sequence.max_new_tokens,
                sequence.constraint,
                self._reading.rules(request.prompt),
            )
            decoding.eos_token_ids |= sequence.ends.keys()
            sequence.eos_token_ids = decoding.eos_token_ids
            self._decoding[sequence.request_id] = decoding
        waited = sequence.started_at - sequence.queued_at
        return Start(len(sequence.prompt_ids), sequence.seed, details, waited, top)

    def _finish_unstarted(self, sequence: Sequence, start: Start | None) -> SequenceOutput:
        """The end of a request that wants its prompt scored and nothing generated."""
        self._remove(sequence)
        finish = Finish(FinishReason.LENGTH, 0)
        return SequenceOutput(sequence.request_id, (), start, finish)

    def _take(self, sequence: Sequence, start: Start | None, choice: Choice) -> SequenceOutput:
        """Turn a chosen token into output, and end the sequence if it is its last."""
        piece, reason = sequence.take(choice.token_id)
        if self._forces_end and sequence.num_generated >= sequence.max_new_tokens:
            reason = FinishReason.LENGTH  # the end was put there, not chosen
        token = GeneratedToken(
            self._texts.scored(choice.token_id, choice.logprob), piece, self._texts.top(choice.top)
        )
        finish = None
        if reason is not None:
            finish = Finish(reason, sequence.num_generated)
            self._remove(sequence)
        return SequenceOutput(sequence.request_id, (token,), start, finish)


def load_text_generation(folder: Path) -> TextGenerationEngine:
    """An engine for the model in `folder`, computed as its weights are stored.

    Raises:
        ModelNotLoadable: See `load_language_model`.
    """
    return TextGenerationEngine(*load_language_model(folder))
