"""Texts to token ids for an encoder, and requests under way."""

from dataclasses import dataclass, field
from typing import Any

from gatehouse.engines.base import EmbeddingRequest
from gatehouse.engines.pipelines.embedding_modules import EmbeddingModules
from gatehouse.engines.text.prompts import (
    MAX_CHARACTERS_PER_TOKEN,
    checked_text,
    refuse_invalid,
)

MAX_TEXTS = 2048


@dataclass(slots=True)
class EmbeddingJob:
    """A request with its texts read; `vectors` fill up step by step, in any order."""

    request_id: int
    priority: int
    normalize: bool
    texts: list[list[int]]
    vectors: dict[int, Any] = field(default_factory=dict)
    num_taken: int = 0
    by_length: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Neighbours of one length need no padding.
        self.by_length = sorted(range(len(self.texts)), key=lambda place: len(self.texts[place]))

    @property
    def is_taken(self) -> bool:
        return self.num_taken == len(self.texts)

    @property
    def is_done(self) -> bool:
        return len(self.vectors) == len(self.texts)

    @property
    def next_length(self) -> int:
        return len(self.texts[self.by_length[self.num_taken]])

    def take(self) -> int:
        """The place of the next text."""
        self.num_taken += 1
        return self.by_length[self.num_taken - 1]


class EmbeddingReader:
    """Reads requests for one model; usable from any thread."""

    def __init__(self, tokenizer: Any, modules: EmbeddingModules, context_length: int) -> None:
        self._tokenizer = tokenizer
        self._modules = modules
        self._context_length = context_length

    def read(self, request_id: int, request: EmbeddingRequest) -> EmbeddingJob:
        """A job that is ready to run.

        Raises:
            RequestRefused: A text is empty or too long, or the prompt's name is not known.
        """
        if not 0 < len(request.texts) <= MAX_TEXTS:
            raise refuse_invalid(
                f"there must be > 0 and <= {MAX_TEXTS} inputs. Given: {len(request.texts)}"
            )
        prefix = self._prefix(request.prompt_name)
        texts = [self._ids(text, prefix, request) for text in request.texts]
        wants = self._modules.normalizes if request.normalize is None else request.normalize
        return EmbeddingJob(request_id, request.priority, wants, texts)

    def _prefix(self, name: str | None) -> str:
        prompts = self._modules.prompts or {}
        if name is None:
            return prompts.get(self._modules.default_prompt or "", "")
        if name not in prompts:
            known = ", ".join(f"`{known}`" for known in sorted(prompts)) or "none"
            raise refuse_invalid(f"`prompt_name` must be one that the model has: {known}")
        return prompts[name]

    def _ids(
        self, text: str | tuple[int, ...], prefix: str, request: EmbeddingRequest
    ) -> list[int]:
        if isinstance(text, str):
            ids = self._encode(checked_text(prefix + text), request)
        else:
            ids = self._fitting(self._known(text), request)
        if not ids:
            raise refuse_invalid("`inputs` has no tokens for this model")
        return ids

    def _encode(self, text: str, request: EmbeddingRequest) -> list[int]:
        longest = self._context_length * MAX_CHARACTERS_PER_TOKEN
        if len(text) > longest:
            if not request.truncate:
                raise self._too_long(f"at least {len(text) // MAX_CHARACTERS_PER_TOKEN}")
            text = text[-longest:] if request.truncate_left else text[:longest]
        ids = list(self._tokenizer(text).input_ids)
        if len(ids) <= self._context_length:
            return ids
        # The tokens around a text, such as [CLS] and [SEP], stay.
        bare = list(self._tokenizer(text, add_special_tokens=False).input_ids)
        num_around = len(ids) - len(bare)
        kept = self._fitting(bare, request, self._context_length - num_around)
        num_before = _place_of(bare, ids)
        return [*ids[:num_before], *kept, *ids[num_before + len(bare) :]]

    def _fitting(
        self, ids: list[int], request: EmbeddingRequest, room: int | None = None
    ) -> list[int]:
        room = self._context_length if room is None else max(1, room)
        if len(ids) <= room:
            return ids
        if not request.truncate:
            raise self._too_long(str(len(ids)))
        return ids[-room:] if request.truncate_left else ids[:room]

    def _too_long(self, given: str) -> Exception:
        return refuse_invalid(
            f"`inputs` must have less than {self._context_length + 1} tokens. Given: {given}"
        )

    def _known(self, ids: tuple[int, ...]) -> list[int]:
        size = len(self._tokenizer)
        for token_id in ids:
            if not 0 <= token_id < size:
                raise refuse_invalid(f"token ids must be >= 0 and < {size}. Given: {token_id}")
        return list(ids)


def _place_of(part: list[int], whole: list[int]) -> int:
    """Where a text's own tokens begin between those around it."""
    for start in range(len(whole) - len(part) + 1):
        if whole[start : start + len(part)] == part:
            return start
    return 0
