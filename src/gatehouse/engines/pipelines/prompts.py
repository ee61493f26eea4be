"""Prompts to token ids: plain text, and conversations through the model's own chat template."""

from typing import Any

import jinja2

from gatehouse.engines.base import (
    ChatPrompt,
    GenerationRequest,
    InfillPrompt,
    Prompt,
    PromptToken,
    RefusalKind,
    RequestRefused,
    TextPrompt,
    TokenizedPrompt,
    TokensPrompt,
)

# No vocabulary in use has longer tokens. Megabytes of text that cannot fit are not read at all:
# that takes long enough for a few callers to keep a host from everybody else.
MAX_CHARACTERS_PER_TOKEN = 128


def encode_prompt(tokenizer: Any, prompt: Prompt, context_length: int) -> list[int]:
    """Token ids of a prompt.

    Raises:
        RequestRefused: The chat template is missing or fails, nothing is left to start from, or
            the text cannot fit into the context.
    """
    if isinstance(prompt, TextPrompt):
        text = prompt.text
        if prompt.truncate is not None:
            text = text[-prompt.truncate * MAX_CHARACTERS_PER_TOKEN :]
        ids = tokenizer(_fitting(text, context_length)).input_ids
        if prompt.truncate is not None:
            ids = ids[-prompt.truncate :]
    elif isinstance(prompt, TokensPrompt):
        ids = _known(tokenizer, prompt.ids)
    elif isinstance(prompt, InfillPrompt):
        raise refuse_invalid("the model has no tokens to fill in the middle with")
    else:
        # The template writes the special tokens itself.
        text = _fitting(_render_chat(tokenizer, prompt), context_length)
        ids = tokenizer(text, add_special_tokens=False).input_ids
    if not ids:
        raise refuse_invalid("`inputs` has no tokens for this model")
    return list(ids)


def tokenize_prompt(tokenizer: Any, prompt: Prompt, context_length: int) -> TokenizedPrompt:
    """Tokens of a prompt with their places in its text. Raises as `encode_prompt` does."""
    if isinstance(prompt, ChatPrompt):
        text = _fitting(_render_chat(tokenizer, prompt), context_length)
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    elif isinstance(prompt, TextPrompt):
        text = _fitting(prompt.text, context_length)
        encoded = tokenizer(text, return_offsets_mapping=True)
    else:
        raise refuse_invalid("only text and conversations can be tokenized")
    places = zip(encoded.input_ids, encoded.offset_mapping, strict=True)
    tokens = tuple(
        PromptToken(token_id, tokenizer.convert_ids_to_tokens(token_id), start, stop)
        for token_id, (start, stop) in places
    )
    return TokenizedPrompt(tokens, text)


def _known(tokenizer: Any, ids: tuple[int, ...]) -> tuple[int, ...]:
    size = len(tokenizer)
    for token_id in ids:
        if not 0 <= token_id < size:
            raise refuse_invalid(f"token ids must be >= 0 and < {size}. Given: {token_id}")
    return ids


def allowed_new_tokens(
    request: GenerationRequest, num_prompt_tokens: int, context_length: int
) -> int:
    """How many tokens may be generated, in the order of checks and with the sentences of TGI.

    Raises:
        RequestRefused: The prompt, or the prompt with what was asked for, is longer than the
            context.
    """
    room = context_length - num_prompt_tokens
    if request.max_new_tokens < 1:
        if request.prompt_details and room >= 0:
            return 0
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


def _fitting(text: str, context_length: int) -> str:
    if len(text) <= context_length * MAX_CHARACTERS_PER_TOKEN:
        return text
    raise refuse_invalid(
        f"`inputs` must have less than {context_length - 1} tokens. "
        f"Given: at least {len(text) // MAX_CHARACTERS_PER_TOKEN}"
    )


def refuse_invalid(sentence: str) -> RequestRefused:
    """A refusal as clients of TGI know it."""
    return RequestRefused(RefusalKind.VALIDATION, f"Input validation error: {sentence}")


def _render_chat(tokenizer: Any, prompt: ChatPrompt) -> str:
    if not tokenizer.chat_template:
        raise _template_error("template not found")
    try:
        # transformers compiles templates in an immutable sandbox of Jinja.
        rendered = tokenizer.apply_chat_template(
            [dict(message) for message in prompt.messages],
            tools=[dict(tool) for tool in prompt.tools] if prompt.tools else None,
            tokenize=False,
            add_generation_prompt=not prompt.continue_final_message,
            continue_final_message=prompt.continue_final_message,
        )
    except jinja2.TemplateError as error:
        raise _template_error(error.message or type(error).__name__) from error
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
        # A template is a program from the repository; the messages it trips over come from the
        # caller.
        raise _template_error(f"{type(error).__name__}: {error}") from error
    return str(rendered)


def _template_error(why: str) -> RequestRefused:
    return RequestRefused(RefusalKind.TEMPLATE, f"Template error: {why}")
