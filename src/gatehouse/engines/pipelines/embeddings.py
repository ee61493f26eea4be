"""Vectors of texts with any encoder of `transformers`, many texts in one forward pass.

Runs in float32, so that a text's vector is the same alone and in a batch, within 1e-5.
"""

import gc
import heapq
import itertools
import logging
import struct
import threading
from pathlib import Path
from typing import Any

import torch

from gatehouse.engines.base import (
    EmbeddingOutput,
    EmbeddingRequest,
    Embeddings,
    EmbeddingTraits,
    EngineOptions,
    Failure,
    GenerationRequest,
    ModelDescription,
    Prompt,
    RefusalKind,
    RequestRefused,
    TokenizedPrompt,
)
from gatehouse.engines.pipelines.embedding_modules import EmbeddingModules, load_modules
from gatehouse.engines.pipelines.embedding_texts import EmbeddingJob, EmbeddingReader
from gatehouse.engines.pipelines.loading import (
    described_device,
    encoder_context_length,
    load_encoder,
)
from gatehouse.engines.text.prompts import PromptReader, refuse_invalid

MAX_WAITING = 256
# Of one forward pass, padding included: about a second on a slow core for a small model.
MAX_BATCH_TOKENS = 4096
MAX_BATCH_TEXTS = 64

_log = logging.getLogger(__name__)


class EmbeddingEngine:
    """An `Engine` over a loaded encoder, its tokenizer and its modules."""

    def __init__(self, model: Any, tokenizer: Any, modules: EmbeddingModules) -> None:
        self._model = model
        self._modules = modules
        self._context_length = encoder_context_length(model, tokenizer, modules.max_tokens)
        self._reader = EmbeddingReader(tokenizer, modules, self._context_length)
        self._prompts = PromptReader(tokenizer, self._context_length)
        self._padding_id = tokenizer.pad_token_id or 0
        self._weight_bytes = sum(
            tensor.numel() * tensor.itemsize
            for tensor in itertools.chain(model.parameters(), model.buffers())
        )
        self._lock = threading.Lock()
        self._arrivals = itertools.count()
        self._waiting: list[tuple[int, int, EmbeddingJob]] = []
        # Sets the fast tokenizer's truncation once; later calls then only read it, from any thread.
        tokenizer("")

    def describe(self) -> ModelDescription:
        hidden_size = self._model.config.get_text_config().hidden_size
        return ModelDescription(
            engine="transformers",
            architecture=type(self._model).__name__,
            context_length=self._context_length,
            has_chat_template=False,
            eos_token_ids=(),
            dtype=str(self._model.dtype).removeprefix("torch."),
            device=described_device(self._model),
            num_parameters=self._model.num_parameters(),
            embeddings=EmbeddingTraits(
                self._modules.num_dimensions(hidden_size), self._modules.is_sentence_model
            ),
        )

    def add(self, request_id: int, request: GenerationRequest | EmbeddingRequest) -> None:
        if isinstance(request, GenerationRequest):
            raise refuse_invalid("the model gives embeddings and generates no text")
        job = self._reader.read(request_id, request)
        with self._lock:
            if sum(entry[0] <= job.priority for entry in self._waiting) >= MAX_WAITING:
                raise RequestRefused(RefusalKind.OVERLOADED, "Model is overloaded")
            heapq.heappush(self._waiting, (job.priority, next(self._arrivals), job))

    def tokenize(self, prompt: Prompt) -> TokenizedPrompt:
        return self._prompts.tokenize(prompt)

    def cancel(self, request_id: int) -> None:
        with self._lock:
            left = [entry for entry in self._waiting if entry[2].request_id != request_id]
            if len(left) < len(self._waiting):
                self._waiting = left
                heapq.heapify(self._waiting)

    def has_work(self) -> bool:
        return bool(self._waiting)

    def step(self) -> list[EmbeddingOutput]:
        batch = self._next_batch()
        if not batch:
            return []
        try:
            vectors = self._run(batch)
        # What torch and the model classes raise on numbers or shapes they cannot handle.
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            _log.warning("A batch failed.", exc_info=error)
            jobs = {job.request_id for job, _ in batch}
            return [self._fail(request_id, type(error).__name__) for request_id in sorted(jobs)]
        for (job, place), vector in zip(batch, vectors, strict=True):
            job.vectors[place] = vector
        jobs_of_batch = {job.request_id: job for job, _ in batch}
        return [self._finish(job) for job in jobs_of_batch.values() if job.is_done]

    def memory_bytes(self) -> int:
        return int(self._weight_bytes)

    def unload(self) -> None:
        with self._lock:
            self._waiting.clear()
        self._model = None
        gc.collect()

    def _next_batch(self) -> list[tuple[EmbeddingJob, int]]:
        """Texts of the first jobs that fit into one pass, at least one."""
        batch: list[tuple[EmbeddingJob, int]] = []
        longest = 0
        with self._lock:
            jobs = [job for _, _, job in sorted(self._waiting, key=lambda entry: entry[:2])]
        for job in jobs:
            while not job.is_taken:
                longest = max(longest, job.next_length)
                is_full = (len(batch) + 1) * longest > MAX_BATCH_TOKENS
                if batch and (is_full or len(batch) == MAX_BATCH_TEXTS):
                    return batch
                batch.append((job, job.take()))
        return batch

    def _run(self, batch: list[tuple[EmbeddingJob, int]]) -> list[Any]:
        texts = [job.texts[place] for job, place in batch]
        longest = max(map(len, texts))
        ids = torch.full((len(texts), longest), self._padding_id)
        mask = torch.zeros((len(texts), longest), dtype=torch.long)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.tensor(text)
            mask[row, : len(text)] = 1
        with torch.inference_mode():
            device = self._model.device
            outputs = self._model(input_ids=ids.to(device), attention_mask=mask.to(device))
            # What comes behind the model is small, and stays here.
            states = outputs.last_hidden_state.cpu()
            normalize = torch.tensor([job.normalize for job, _ in batch])
            vectors = self._modules.apply(states.float(), mask, normalize)
        return list(vectors)

    def _finish(self, job: EmbeddingJob) -> EmbeddingOutput:
        vectors = [job.vectors[place] for place in range(len(job.texts))]
        if not all(torch.isfinite(vector).all() for vector in vectors):
            return self._fail(job.request_id, "the model gave numbers that are not finite")
        self.cancel(job.request_id)
        embeddings = Embeddings(tuple(map(_bytes, vectors)), tuple(map(len, job.texts)))
        return EmbeddingOutput(job.request_id, embeddings)

    def _fail(self, request_id: int, why: str) -> EmbeddingOutput:
        self.cancel(request_id)
        sentence = f"Request failed during generation: {why}"
        return EmbeddingOutput(request_id, failure=Failure(RefusalKind.GENERATION, sentence))


def load_embeddings(
    folder: Path, _options: EngineOptions | None = None, _num_threads: int = 1
) -> EmbeddingEngine:
    """An engine for the encoder in `folder`. There is one way to run it.

    Raises:
        ModelNotLoadable: See `load_encoder` and `load_modules`.
    """
    modules = load_modules(folder)
    return EmbeddingEngine(*load_encoder(folder), modules)


def _bytes(vector: Any) -> bytes:
    return struct.pack(f"<{len(vector)}f", *vector.tolist())
