"""How a model reads its prompts and how much it can hold, with an encoder or without."""

from dataclasses import dataclass
from typing import Any

from gatehouse.engines.base import Prompt
from gatehouse.engines.pipelines.encoder_decoder_sizes import (
    decoder_cache_bytes_per_token,
    separate_lengths,
)
from gatehouse.engines.pipelines.encoder_prompts import EncoderPromptReader
from gatehouse.engines.pipelines.loading import cache_bytes_per_token, context_length
from gatehouse.engines.text.lengths import Lengths, SharedLength
from gatehouse.engines.text.prompts import PromptReader


@dataclass(frozen=True, slots=True)
class Reading:
    """Of one model.

    Attributes:
        context_length: Tokens of prompt and answer together.
        encoder_length: How many of them are the prompt's; None without an encoder.
        bytes_per_token: Of keys and values.
    """

    prompts: PromptReader
    lengths: Lengths
    context_length: int
    encoder_length: int | None
    bytes_per_token: int

    @property
    def can_infill(self) -> bool:
        return self.encoder_length is None and self.prompts.infilling.is_possible

    def rules(self, prompt: Prompt) -> dict[str, int]:
        """What the prompt itself adds to the rules of generating, by the names of `generate`."""
        prompts = self.prompts
        return prompts.rules(prompt) if isinstance(prompts, EncoderPromptReader) else {}


def reading_of(model: Any, tokenizer: Any) -> Reading:
    """Read off the model's configuration."""
    if not model.config.is_encoder_decoder:
        length = context_length(model, tokenizer)
        default = model.generation_config.max_new_tokens
        shared = SharedLength(length, default) if default else SharedLength(length)
        prompts = PromptReader(tokenizer, length)
        return Reading(prompts, shared, length, None, cache_bytes_per_token(model))
    separate = separate_lengths(model, tokenizer)
    encoder_length = separate.encoder_length
    return Reading(
        EncoderPromptReader(tokenizer, model.config, encoder_length),
        separate,
        encoder_length + separate.decoder_length,
        encoder_length,
        decoder_cache_bytes_per_token(model),
    )
