"""Text generation with any causal model of `transformers`: our step loop over its forward pass.

Every running sequence has its own key-value cache and gets one token per step, in turn. Knows
tokens and text; does not know the shapes of any web surface.
"""

import gc
import heapq
import itertools
import logging
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gatehouse.engines.base import (
    Failure,
    Finish,
    FinishReason,
    GeneratedToken,
    GenerationRequest,
    ModelDescription,
    Prompt,
    RefusalKind,
    RequestRefused,
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
    prompt_logprobs,
)
from gatehouse.engines.pipelines.detokenizer import Detokenizer
from gatehouse.engines.pipelines.loading import (
    cache_bytes_per_token,
    context_length,
    load_causal_lm,
)
from gatehouse.engines.pipelines.prompts import (
    allowed_new_tokens,
    encode_prompt,
    refuse_invalid,
    tokenize_prompt,
)
from gatehouse.engines.pipelines.stop_strings import StopStrings
from gatehouse.engines.pipelines.token_budget import TokenBudget

MAX_RUNNING = 16
MAX_WAITING = 256
MAX_PROMPT_DETAILS = 1024
CACHE_BYTES = 1024**3

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Sequence:
    """A request with its prompt read; `decoding` is set once it runs."""

    request_id: int
    request: GenerationRequest
    prompt_ids: list[int]
    max_new_tokens: int
    seed: int | None
    text: Detokenizer
    stop: StopStrings
    queued_at: float
    started_at: float = 0.0
    decoding: DecodingState | None = None
    num_generated: int = 0

    @property
    def num_reserved(self) -> int:
        """Tokens that this sequence may come to hold in the cache."""
        return len(self.prompt_ids) + self.max_new_tokens


class TextGenerationEngine:
    """An `Engine` over a loaded model and tokenizer."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._context_length = context_length(model, tokenizer)
        self._special_ids = frozenset(tokenizer.all_special_ids)
        self._bytes_per_token = cache_bytes_per_token(model)
        self._weight_bytes = sum(
            tensor.numel() * tensor.itemsize
            for tensor in itertools.chain(model.parameters(), model.buffers())
        )
        self.budget = TokenBudget(
            max(self._context_length, CACHE_BYTES // max(1, self._bytes_per_token))
        )
        self._lock = threading.Lock()
        self._waiting: list[tuple[int, int, Sequence]] = []
        self._arrivals = itertools.count()
        self._cancelled: set[int] = set()
        self._running: dict[int, Sequence] = {}
        # Sets the fast tokenizer's truncation once; later calls then only read it, from any thread.
        tokenizer("")

    def describe(self) -> ModelDescription:
        eos = self._model.generation_config.eos_token_id
        ids = () if eos is None else tuple(eos) if isinstance(eos, list) else (eos,)
        return ModelDescription(
            engine="transformers",
            architecture=type(self._model).__name__,
            context_length=self._context_length,
            has_chat_template=bool(self._tokenizer.chat_template),
            eos_token_ids=ids,
            dtype=str(self._model.dtype).removeprefix("torch."),
            device=self._model.device.type,
            num_parameters=self._model.num_parameters(),
        )

    def add(self, request_id: int, request: GenerationRequest) -> None:
        sequence = self._read(request_id, request)
        with self._lock:
            if len(self._waiting) >= MAX_WAITING:
                raise RequestRefused(RefusalKind.OVERLOADED, "Model is overloaded")
            entry = (request.priority, next(self._arrivals), sequence)
            heapq.heappush(self._waiting, entry)

    def tokenize(self, prompt: Prompt) -> TokenizedPrompt:
        return tokenize_prompt(self._tokenizer, prompt, self._context_length)

    def cancel(self, request_id: int) -> None:
        with self._lock:
            self._cancelled.add(request_id)

    def has_work(self) -> bool:
        with self._lock:
            return bool(self._waiting or self._running or self._cancelled)

    def step(self) -> list[SequenceOutput]:
        self._drop_cancelled()
        self._admit_one()
        with torch.inference_mode():
            return [self._advance(sequence) for sequence in list(self._running.values())]

    def memory_bytes(self) -> int:
        return int(self._weight_bytes + self.budget.num_allocated * self._bytes_per_token)

    def unload(self) -> None:
        with self._lock:
            self._waiting.clear()
            self._cancelled.clear()
        for sequence in list(self._running.values()):
            self._remove(sequence)
        self._model = None
        gc.collect()

    def _read(self, request_id: int, request: GenerationRequest) -> Sequence:
        ids = encode_prompt(self._tokenizer, request.prompt, self._context_length)
        max_new_tokens = allowed_new_tokens(request, len(ids), self._context_length)
        if request.prompt_details and len(ids) > MAX_PROMPT_DETAILS:
            raise refuse_invalid(
                f"`decoder_input_details` is not given for more than {MAX_PROMPT_DETAILS} tokens. "
                f"Given: {len(ids)}"
            )
        sampling = request.sampling
        seed = sampling.seed if sampling.seed is not None else secrets.randbits(53)
        return Sequence(
            request_id=request_id,
            request=request,
            prompt_ids=ids,
            max_new_tokens=max_new_tokens,
            seed=seed if sampling.do_sample else None,
            text=Detokenizer(self._decode, ids),
            stop=StopStrings(request.stop, keep=request.keep_stop),
            queued_at=time.monotonic(),
        )

    def _drop_cancelled(self) -> None:
        with self._lock:
            cancelled, self._cancelled = self._cancelled, set()
            if cancelled:
                self._waiting = [
                    entry for entry in self._waiting if entry[2].request_id not in cancelled
                ]
                heapq.heapify(self._waiting)
        for request_id in cancelled & self._running.keys():
            self._remove(self._running[request_id])

    def _admit_one(self) -> None:
        """Let one waiting sequence in; reading more prompts would hold up the others too long."""
        with self._lock:
            if not self._waiting or len(self._running) >= MAX_RUNNING:
                return
            sequence = self._waiting[0][2]
            if not self.budget.can_allocate(sequence.num_reserved):
                return
            heapq.heappop(self._waiting)
            # Inside the lock: between the queue and the running ones, `has_work` must not see
            # neither.
            self._running[sequence.request_id] = sequence
        self.budget.allocate(sequence.num_reserved)
        sequence.started_at = time.monotonic()

    def _remove(self, sequence: Sequence) -> None:
        del self._running[sequence.request_id]
        self.budget.deallocate(sequence.num_reserved)

    def _advance(self, sequence: Sequence) -> SequenceOutput:
        try:
            start = self._start(sequence) if sequence.decoding is None else None
            assert sequence.decoding is not None
            choice = choose_next(self._model, sequence.decoding, sequence.request.num_top_tokens)
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
        if request.prompt_details:
            scores = prompt_logprobs(self._model, sequence.prompt_ids)
            pairs = zip(sequence.prompt_ids, scores, strict=True)
            details = tuple(self._scored(token_id, score) for token_id, score in pairs)
        sequence.decoding = prepare(
            self._model,
            sequence.prompt_ids,
            request.sampling,
            sequence.seed,
            sequence.max_new_tokens,
        )
        waited = sequence.started_at - sequence.queued_at
        return Start(len(sequence.prompt_ids), sequence.seed, details, waited)

    def _take(self, sequence: Sequence, start: Start | None, choice: Choice) -> SequenceOutput:
        """Turn a chosen token into output, and end the sequence if it is its last."""
        assert sequence.decoding is not None
        sequence.num_generated += 1
        is_eos = choice.token_id in sequence.decoding.eos_token_ids
        piece = sequence.stop.feed(sequence.text.push(choice.token_id))
        reason = self._finish_reason(sequence, is_eos=is_eos)
        if reason is not None and not sequence.stop.is_stopped:
            piece += sequence.stop.feed(sequence.text.flush()) + sequence.stop.flush()
        token = GeneratedToken(
            self._scored(choice.token_id, choice.logprob),
            piece,
            tuple(self._scored(token_id, score) for token_id, score in choice.top),
        )
        finish = None
        if reason is not None:
            finish = Finish(reason, sequence.num_generated)
            self._remove(sequence)
        return SequenceOutput(sequence.request_id, (token,), start, finish)

    def _finish_reason(self, sequence: Sequence, *, is_eos: bool) -> FinishReason | None:
        if is_eos:
            return FinishReason.EOS_TOKEN
        if sequence.stop.is_stopped:
            return FinishReason.STOP_SEQUENCE
        limit = sequence.request.max_seconds
        if limit is not None and time.monotonic() - sequence.started_at >= limit:
            return FinishReason.LENGTH
        if sequence.num_generated >= sequence.max_new_tokens:
            return FinishReason.LENGTH
        return None

    def _decode(self, ids: list[int]) -> str:
        return str(
            self._tokenizer.decode(
                ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )

    def _scored(self, token_id: int, logprob: float | None) -> ScoredToken:
        special = token_id in self._special_ids
        text = self._tokenizer.decode(
            [token_id], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return ScoredToken(token_id, text, logprob, special)


def load_text_generation(folder: Path) -> TextGenerationEngine:
    """An engine for the causal model in `folder`.

    Raises:
        ModelNotLoadable: See `load_causal_lm`.
    """
    return TextGenerationEngine(*load_causal_lm(folder))
