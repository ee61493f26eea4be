"""How long prompts and answers may be: as one text, or each by itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from gatehouse.engines.base import GenerationRequest, TaskPrompt
from gatehouse.engines.text.prompts import allowed_new_tokens, refuse_invalid

# What the last text2text pipeline of `transformers` took where a model says nothing.
DEFAULT_NEW_TOKENS = 256


class Lengths(Protocol):
    """The bounds of one model.

    Attributes:
        answer_continues: Whether the answer is text that goes on where the prompt ends.
    """

    @property
    def answer_continues(self) -> bool: ...

    def allowed_new_tokens(self, request: GenerationRequest, num_prompt_tokens: int) -> int:
        """How many tokens may be generated.

        Raises:
            RequestRefused: The prompt, or what was asked for, is too long for the model.
        """
        ...


@dataclass(frozen=True, slots=True)
class SharedLength:
    """Of a causal model: prompt and answer have one context."""

    context_length: int
    default_new_tokens: int = DEFAULT_NEW_TOKENS

    @property
    def answer_continues(self) -> bool:
        return True

    def allowed_new_tokens(self, request: GenerationRequest, num_prompt_tokens: int) -> int:
        allowed = allowed_new_tokens(request, num_prompt_tokens, self.context_length)
        return min(allowed, self.default_new_tokens) if request.whole_answer else allowed


@dataclass(frozen=True, slots=True)
class SeparateLengths:
    """Of an encoder-decoder model: the encoder reads the prompt, the decoder writes the answer.

    Attributes:
        encoder_length: Tokens of a prompt.
        decoder_length: Tokens of an answer, its start token left out.
        task_new_tokens: Instead of `default_new_tokens` for tasks that the model names.
    """

    encoder_length: int
    decoder_length: int
    default_new_tokens: int = DEFAULT_NEW_TOKENS
    task_new_tokens: Mapping[str, int] = field(default_factory=dict)

    @property
    def answer_continues(self) -> bool:
        return False

    def allowed_new_tokens(self, request: GenerationRequest, num_prompt_tokens: int) -> int:
        if request.prompt_details:
            raise refuse_invalid(
                "`decoder_input_details` needs a model that predicts its prompt; this one reads it "
                "with an encoder"
            )
        if request.max_new_tokens < 1:
            raise refuse_invalid("`max_new_tokens` must be strictly positive")
        if num_prompt_tokens > self.encoder_length:
            raise refuse_invalid(
                f"`inputs` must have less than {self.encoder_length} tokens. "
                f"Given: {num_prompt_tokens}"
            )
        return self._fitted(request, self._wanted(request))

    def _wanted(self, request: GenerationRequest) -> int:
        wanted = request.max_new_tokens
        if request.max_total_tokens is not None:
            # As in `generate`, which counts the decoder's start token.
            wanted = min(wanted, request.max_total_tokens - 1)
            if wanted < 1:
                raise refuse_invalid(f"`max_length` must be > 1. Given: {request.max_total_tokens}")
        elif request.whole_answer:
            task = request.prompt.task if isinstance(request.prompt, TaskPrompt) else ""
            wanted = min(wanted, self.task_new_tokens.get(task, self.default_new_tokens))
        return wanted

    def _fitted(self, request: GenerationRequest, wanted: int) -> int:
        if wanted > self.decoder_length and not request.fit_to_context:
            raise refuse_invalid(
                f"`max_new_tokens` must be <= {self.decoder_length}. Given: {wanted}"
            )
        return min(wanted, self.decoder_length)
