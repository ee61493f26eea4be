"""Prompts to token ids: text, conversations, gaps to fill in, and ids themselves."""

import re
from typing import Any

from gatehouse.engines.base import (
    ChatPrompt,
    GenerationRequest,
    InfillPrompt,
    Prompt,
    PromptToken,
    RefusalKind,
    RequestRefused,
    TaskPrompt,
    TextPrompt,
    TokenizedPrompt,
    TokensPrompt,
)
from gatehouse.engines.text.chat_template import ChatTemplate
from gatehouse.engines.text.infill import Infilling

# No vocabulary in use has longer tokens. Megabytes of text that cannot fit are not read at all:
# that takes long enough for a few callers to keep a host from everybody else.
MAX_CHARACTERS_PER_TOKEN = 128
# Tokens that are shown one by one: each is an object here, in the hub and in the answer.
MAX_SHOWN_TOKENS = 65_536
_HALF_PAIR = re.compile("[\ud800-\udfff]")


class PromptReader:
    """Reads the prompts of one model; usable from any thread."""

    def __init__(self, tokenizer: Any, context_length: int) -> None:
        self._tokenizer = tokenizer
        self._context_length = context_length
        self.chat = ChatTemplate(tokenizer)
        self.infilling = Infilling(tokenizer)

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt.

        Raises:
            RequestRefused: The model has no format for it, the chat template fails, nothing is left
                to start from, or the text cannot fit into the context.
        """
        match prompt:
            case TextPrompt():
                ids = self._encode_text(prompt)
            case TaskPrompt():
                ids = self._encode_task(prompt)
            case TokensPrompt():
                ids = self._known(prompt.ids)
            case InfillPrompt():
                if not self.infilling.is_possible:
                    raise refuse_invalid("the model has no tokens to fill in the middle with")
                self._fitting(prompt.prefix + prompt.suffix)
                ids = self.infilling.encode(prompt)
            case ChatPrompt():
                # The template writes the special tokens itself.
                text = self._rendered(prompt)
                ids, _ = self.chat.plain.encode(text)
        if not ids:
            raise refuse_invalid("`inputs` has no tokens for this model")
        return ids

    def tokenize(self, prompt: Prompt) -> TokenizedPrompt:
        """Tokens of a prompt with their places in its text. Raises as `encode` does."""
        if isinstance(prompt, ChatPrompt):
            text = self._rendered(prompt)
            ids, places = self.chat.plain.encode(text)
            text = self.chat.plain.shown(text)
        elif isinstance(prompt, TextPrompt):
            text = self._fitting(prompt.text)
            encoded = self._tokenizer(text, return_offsets_mapping=True)
            ids, places = encoded.input_ids, encoded.offset_mapping
        else:
            raise refuse_invalid("only text and conversations can be tokenized")
        if len(ids) > MAX_SHOWN_TOKENS:
            raise refuse_invalid(
                f"at most {MAX_SHOWN_TOKENS} tokens are shown. Given: {len(ids)} `inputs` tokens"
            )
        tokens = tuple(
            PromptToken(token_id, self._tokenizer.convert_ids_to_tokens(token_id), start, stop)
            for token_id, (start, stop) in zip(ids, places, strict=True)
        )
        return TokenizedPrompt(tokens, text)

    def _rendered(self, prompt: ChatPrompt) -> str:
        """The conversation as text, which is not written at all if it cannot fit."""
        self._refuse_longer(_num_characters([prompt.messages, prompt.tools]))
        return self._fitting(self.chat.render(prompt))

    def _encode_text(self, prompt: TextPrompt) -> list[int]:
        text = prompt.text
        if prompt.truncate is not None:
            text = text[-prompt.truncate * MAX_CHARACTERS_PER_TOKEN :]
        gap = self.infilling.written_by_hand(self._fitting(text))
        ids = self.infilling.encode(gap) if gap else list(self._tokenizer(text).input_ids)
        return ids if prompt.truncate is None else ids[-prompt.truncate :]

    def _encode_task(self, prompt: TaskPrompt) -> list[int]:
        """The text alone, for models that know no tasks; half of a context, if it is cut."""
        if prompt.source_language is not None or prompt.target_language is not None:
            raise refuse_invalid("the model knows no languages by name")
        if not prompt.cut_to_fit:
            return self._encode_text(TextPrompt(prompt.text))
        text = prompt.text[: self._context_length * MAX_CHARACTERS_PER_TOKEN]
        return self._encode_text(TextPrompt(text))[: self._context_length // 2]

    def _known(self, ids: tuple[int, ...]) -> list[int]:
        size = len(self._tokenizer)
        for token_id in ids:
            if not 0 <= token_id < size:
                raise refuse_invalid(f"token ids must be >= 0 and < {size}. Given: {token_id}")
        return list(ids)

    def _fitting(self, text: str) -> str:
        self._refuse_longer(len(text))
        return checked_text(text)

    def _refuse_longer(self, num_characters: int) -> None:
        if num_characters > self._context_length * MAX_CHARACTERS_PER_TOKEN:
            raise refuse_invalid(
                f"`inputs` must have less than {self._context_length - 1} tokens. "
                f"Given: at least {num_characters // MAX_CHARACTERS_PER_TOKEN}"
            )


def allowed_new_tokens(
    request: GenerationRequest, num_prompt_tokens: int, context_length: int
) -> int:
    """How many tokens may be generated, in the order of checks and with the sentences of TGI.

    Raises:
        RequestRefused: The prompt, or the prompt with what was asked for, is longer than the
            context.
    """
    room = context_length - num_prompt_tokens
    scores_only = request.max_new_tokens == 0 and request.prompt_details
    if scores_only and room >= 0:
        return 0
    if request.max_new_tokens < 1 and not scores_only:
        raise refuse_invalid("`max_new_tokens` must be strictly positive")
    if request.max_total_tokens is not None:
        wanted = min(request.max_new_tokens, request.max_total_tokens - num_prompt_tokens)
        if wanted < 1:
            raise refuse_invalid(
                "`inputs` tokens must be less than `max_length`. "
                f"Given: {num_prompt_tokens} `inputs` tokens "
                f"and {request.max_total_tokens} `max_length`"
            )
    else:
        wanted = request.max_new_tokens
    if wanted > room and not request.fit_to_context:
        raise refuse_invalid(
            f"`inputs` tokens + `max_new_tokens` must be <= {context_length}. "
            f"Given: {num_prompt_tokens} `inputs` tokens and {wanted} `max_new_tokens`"
        )
    if room < 1:
        raise refuse_invalid(
            f"`inputs` must have less than {context_length - 1} tokens. Given: {num_prompt_tokens}"
        )
    return min(wanted, room)


def checked_text(text: str) -> str:
    """The text, if it can be encoded.

    Raises:
        RequestRefused: It holds half of a surrogate pair, as JSON may.
    """
    if _HALF_PAIR.search(text):
        raise refuse_invalid("`inputs` holds half of a surrogate pair")
    return text


def _num_characters(value: Any) -> int:
    """Of all texts in a JSON value."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return 0
    return sum(map(_num_characters, value))


def refuse_invalid(sentence: str) -> RequestRefused:
    """A refusal as clients of TGI know it."""
    return RequestRefused(RefusalKind.VALIDATION, f"Input validation error: {sentence}")
