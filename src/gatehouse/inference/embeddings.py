"""Bodies to embedding requests, and vectors to the shapes that each surface answers."""

import base64
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from anyio.to_thread import run_sync

from gatehouse.engines.base import EmbeddingRequest, Embeddings
from gatehouse.inference.errors import HostLost, ValidationFailed
from gatehouse.inference.generation import Target, TextGeneration
from gatehouse.inference.json_fields import Fields, is_token_ids

MAX_TEXTS = 2048
_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class EmbeddingJob:
    """A validated body.

    Attributes:
        is_list: More than one answer is expected, even for one text.
        dimensions: Keep so many of each vector, and make it as long as it was: 1.
        as_base64: Vectors as base64 of little-endian float32.
    """

    request: EmbeddingRequest
    is_list: bool = True
    dimensions: int | None = None
    as_base64: bool = False

    @property
    def num_characters(self) -> int:
        return sum(len(text) for text in self.request.texts if isinstance(text, str))

    def without_priority(self) -> "EmbeddingJob":
        """The same for everybody who may run the model."""
        return replace(self, request=msgspec.structs.replace(self.request, priority=0))


def parse_features(body: Mapping[str, Any], priority: int = 0) -> EmbeddingJob:
    """Read `{"inputs": text or texts}`; the other keys stand at the root or in `parameters`.

    Raises:
        ValidationFailed: A field is wrong.
    """
    inputs, fields = body.get("inputs"), _fields(body)
    texts = inputs if isinstance(inputs, list) else [inputs]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValidationFailed("`inputs` must be a string or a list of strings")
    return EmbeddingJob(_request(texts, fields, "inputs", priority), isinstance(inputs, list))


def parse_similarity(body: Mapping[str, Any], priority: int = 0) -> EmbeddingJob:
    """Read `{"inputs": {"source_sentence": text, "sentences": texts}}`; the source comes first.

    Raises:
        ValidationFailed: A field is wrong.
    """
    inputs = body.get("inputs")
    if not isinstance(inputs, Mapping):
        raise ValidationFailed("`inputs` must be an object with `source_sentence` and `sentences`")
    source, sentences = inputs.get("source_sentence"), inputs.get("sentences")
    if not isinstance(source, str) or not isinstance(sentences, list) or not sentences:
        raise ValidationFailed("`inputs` must have `source_sentence`, and `sentences` in a list")
    texts = [source, *sentences]
    if not all(isinstance(text, str) for text in texts):
        raise ValidationFailed("`sentences` must be a list of strings")
    request = _request(texts, _fields(body), "sentences", priority)
    return EmbeddingJob(msgspec.structs.replace(request, normalize=True))


def parse_openai(body: Mapping[str, Any], priority: int = 0) -> EmbeddingJob:
    """Read OpenAI's `{"input": ...}`: texts or token ids, one or several.

    Raises:
        ValidationFailed: A field is wrong.
    """
    fields = Fields(body)
    value = fields.raw("input")
    items = value if isinstance(value, list) and not is_token_ids(value) else [value]
    encoding = fields.raw("encoding_format")
    if encoding not in (None, "float", "base64"):
        raise ValidationFailed("`encoding_format` must be `float` or `base64`")
    texts = [
        tuple(item) if isinstance(item, list) and is_token_ids(item) else item for item in items
    ]
    if not texts or not all(isinstance(text, str | tuple) for text in texts):
        raise ValidationFailed("`input` must be a string, a list of strings, or lists of token ids")
    return EmbeddingJob(
        _request(texts, fields, "input", priority),
        dimensions=fields.integer("dimensions", 1),
        as_base64=encoding == "base64",
    )


class TextEmbeddings:
    """The service behind the embedding routes."""

    def __init__(self, generation: TextGeneration) -> None:
        self._generation = generation

    # Numbers are turned into texts by threads: thousands of them take long.

    async def features(self, target: Target, job: EmbeddingJob) -> Any:
        """One vector for one text, a list of them for a list.

        A level deeper for models that sentence-transformers did not make: clients of those expect
        what the pipelines of `transformers` gave.
        """
        embeddings, is_sentence_model = await self._run(target, job)
        return await run_sync(_features, job, embeddings, is_sentence_model)

    async def similarities(self, target: Target, job: EmbeddingJob) -> list[float]:
        """Cosines between the first text and each of the others."""
        embeddings, _ = await self._run(target, job)
        return await run_sync(_similarities, embeddings)

    async def openai(self, target: Target, job: EmbeddingJob) -> dict[str, Any]:
        """OpenAI's list.

        Raises:
            ValidationFailed: `dimensions` is more than the model has.
        """
        embeddings, _ = await self._run(target, job)
        return {"model": target.name} | await run_sync(_openai, job, embeddings)

    async def _run(self, target: Target, job: EmbeddingJob) -> tuple[Embeddings, bool]:
        """The vectors, and whether the model was made with sentence-transformers."""
        try:
            return await self._attempt(target, job)
        except HostLost:
            # The same texts give the same vectors: once more does no harm.
            return await self._attempt(target, job)

    async def _attempt(self, target: Target, job: EmbeddingJob) -> tuple[Embeddings, bool]:
        meter = target.meter
        submitted = meter.submit()
        async with self._generation.hold(target) as model:
            traits = model.description.embeddings
            meter.hold(model.description.device, submitted)
            embeddings = await model.embed(job.request)
        meter.num_prompt_tokens += sum(embeddings.num_tokens)
        return embeddings, traits is not None and traits.is_sentence_model


def _fields(body: Mapping[str, Any]) -> Fields:
    """Clients write parameters at the root, as the task has it, or where other tasks have them."""
    parameters = body.get("parameters")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise ValidationFailed("`parameters` must be an object")
    return Fields({**body, **{k: v for k, v in (parameters or {}).items() if v is not None}})


def _request(texts: Sequence[Any], fields: Fields, name: str, priority: int) -> EmbeddingRequest:
    if len(texts) > MAX_TEXTS:
        raise ValidationFailed(f"`{name}` may have at most {MAX_TEXTS} texts. Given: {len(texts)}")
    if not all(texts):
        raise ValidationFailed(f"`{name}` cannot be empty")
    prompt_name = fields.raw("prompt_name")
    if prompt_name is not None and not isinstance(prompt_name, str):
        raise ValidationFailed("`prompt_name` must be a string")
    direction = fields.raw("truncation_direction")
    if direction not in (None, "left", "right", "Left", "Right"):
        raise ValidationFailed("`truncation_direction` must be `left` or `right`")
    normalize = None if fields.raw("normalize") is None else fields.boolean("normalize")
    return EmbeddingRequest(
        texts=tuple(texts),
        normalize=normalize,
        truncate=fields.boolean("truncate"),
        truncate_left=direction in ("left", "Left"),
        prompt_name=prompt_name,
        priority=priority,
    )


def _features(job: EmbeddingJob, embeddings: Embeddings, is_sentence_model: bool) -> Any:
    vectors: list[Any] = [_floats(vector) for vector in embeddings.vectors]
    if not is_sentence_model:
        vectors = [[vector] for vector in vectors]
    return vectors if job.is_list else vectors[0]


def _similarities(embeddings: Embeddings) -> list[float]:
    source, *others = (_floats(vector) for vector in embeddings.vectors)
    return [_dot(source, other) for other in others]


def _openai(job: EmbeddingJob, embeddings: Embeddings) -> dict[str, Any]:
    vectors = [_cut(vector, job.dimensions) for vector in embeddings.vectors]
    num_tokens = sum(embeddings.num_tokens)
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _encoded(job, vector)}
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
    }


def _floats(vector: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(vector) // _FLOAT_BYTES}f", vector)


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(map(float.__mul__, one, other))


def _cut(vector: bytes, dimensions: int | None) -> bytes:
    if dimensions is None:
        return vector
    num_dimensions = len(vector) // _FLOAT_BYTES
    if dimensions > num_dimensions:
        raise ValidationFailed(f"`dimensions` must be <= {num_dimensions}. Given: {dimensions}")
    kept = _floats(vector)[:dimensions]
    length = math.sqrt(_dot(kept, kept))
    scaled = [value / length for value in kept] if length else kept
    return struct.pack(f"<{dimensions}f", *scaled)


def _encoded(job: EmbeddingJob, vector: bytes) -> str | tuple[float, ...]:
    return base64.b64encode(vector).decode() if job.as_base64 else _floats(vector)
