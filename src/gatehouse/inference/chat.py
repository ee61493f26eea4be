"""Conversations in OpenAI's shapes, run as generation requests with the model's own chat template.

Tools and structured answers are not built: asking for them is refused, never ignored.
"""

import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from gatehouse.engines.base import (
    ChatPrompt,
    Finish,
    FinishReason,
    GeneratedToken,
    GenerationRequest,
    SamplingParams,
)
from gatehouse.inference.errors import ValidationFailed
from gatehouse.inference.generation import Target, TextGeneration
from gatehouse.inference.json_fields import Fields
from gatehouse.inference.parameters import read_stop

MAX_MESSAGES = 1024
MAX_TOP_LOGPROBS = 20
_UNSIGNED_64 = 2**64
_ROLES = frozenset({"system", "user", "assistant", "tool", "function"})
_FINISH_REASONS = {
    FinishReason.EOS_TOKEN: "stop",
    FinishReason.STOP_SEQUENCE: "stop",
    FinishReason.LENGTH: "length",
}


@dataclass(frozen=True, slots=True)
class ChatJob:
    """A validated chat body."""

    request: GenerationRequest
    is_stream: bool
    include_usage: bool
    with_logprobs: bool

    @property
    def num_new_tokens(self) -> int:
        """At most so many tokens are generated."""
        return self.request.max_new_tokens


def parse_chat(body: Mapping[str, Any], max_new_tokens_cap: int, priority: int = 0) -> ChatJob:
    """Read a chat completion's body; unknown keys are ignored, null means absent.

    Raises:
        ValidationFailed: A field is wrong, or asks for what is not built.
    """
    fields = Fields(body)
    _refuse_unsupported(fields)
    messages = _messages(fields.raw("messages"))
    wanted = fields.integer("max_completion_tokens", 1) or fields.integer("max_tokens", 1)
    if wanted is not None and wanted > max_new_tokens_cap:
        raise ValidationFailed(
            f"`max_tokens` must be <= {max_new_tokens_cap} on your plan. Given: {wanted}"
        )
    with_logprobs = fields.boolean("logprobs")
    stream_options = fields.raw("stream_options")
    request = GenerationRequest(
        prompt=ChatPrompt(messages, continue_final_message=messages[-1]["role"] == "assistant"),
        sampling=_sampling(fields),
        max_new_tokens=wanted or max_new_tokens_cap,
        fit_to_context=wanted is None,
        stop=read_stop(fields),
        keep_stop=False,
        num_top_tokens=(fields.integer("top_logprobs", 0, MAX_TOP_LOGPROBS) or 0)
        if with_logprobs
        else 0,
        priority=priority,
    )
    return ChatJob(
        request=request,
        is_stream=fields.boolean("stream"),
        include_usage=isinstance(stream_options, Mapping)
        and stream_options.get("include_usage") is True,
        with_logprobs=with_logprobs,
    )


class ChatCompletions:
    """The service behind the chat routes."""

    def __init__(self, generation: TextGeneration) -> None:
        self._generation = generation

    async def run(self, target: Target, job: ChatJob) -> dict[str, Any]:
        """One whole answer. Raises as `TextGeneration.outputs` does."""
        sequence = await self._generation.sequence(target, job.request)
        assert sequence.finish is not None
        logprobs = {"content": [_logprob(token) for token in sequence.tokens]}
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": sequence.text},
            "logprobs": logprobs if job.with_logprobs else None,
            "finish_reason": _FINISH_REASONS[sequence.finish.reason],
        }
        usage = _usage(sequence.num_prompt_tokens, sequence.finish)
        head = _head(target, "chat.completion")
        return head | {"choices": [choice], "usage": usage}

    async def stream(self, target: Target, job: ChatJob) -> AsyncGenerator[dict[str, Any]]:
        """Chunks, one a token and one at the end. Use with `contextlib.aclosing`."""
        head = _head(target, "chat.completion.chunk")
        num_prompt_tokens = 0
        async with aclosing(self._generation.outputs(target, job.request)) as outputs:
            async for output in outputs:
                if output.start is not None:
                    num_prompt_tokens = output.start.num_prompt_tokens
                for generated in output.tokens:
                    yield head | _chunk(job, generated.piece, generated)
                if output.finish is None:
                    continue
                reason = _FINISH_REASONS[output.finish.reason]
                yield head | _chunk(job, "", finish_reason=reason)
                if job.include_usage:
                    yield head | {"choices": [], "usage": _usage(num_prompt_tokens, output.finish)}


def _head(target: Target, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": target.name,
        "system_fingerprint": f"gatehouse-{target.version[-12:]}",
    }


def _chunk(
    job: ChatJob,
    text: str,
    generated: GeneratedToken | None = None,
    finish_reason: str | None = None,
) -> dict[str, Any]:
    logprobs = None
    if job.with_logprobs and generated is not None:
        logprobs = {"content": [_logprob(generated)]}
    choice = {
        "index": 0,
        # Some clients want the role in every chunk.
        "delta": {"role": "assistant", "content": text},
        "logprobs": logprobs,
        "finish_reason": finish_reason,
    }
    return {"choices": [choice], "usage": None}


def _logprob(generated: GeneratedToken) -> dict[str, Any]:
    return {
        "token": generated.token.text,
        "logprob": generated.token.logprob,
        "top_logprobs": [{"token": top.text, "logprob": top.logprob} for top in generated.top],
    }


def _usage(num_prompt_tokens: int, finish: Finish) -> dict[str, int]:
    return {
        "prompt_tokens": num_prompt_tokens,
        "completion_tokens": finish.num_generated_tokens,
        "total_tokens": num_prompt_tokens + finish.num_generated_tokens,
    }


def _sampling(fields: Fields) -> SamplingParams:
    """Sampling unless `temperature` is 0."""
    temperature = _within(fields, "temperature", 0, 2)
    top_p = _within(fields, "top_p", 0, 1)
    repetition_penalty = fields.number("repetition_penalty")
    if repetition_penalty is not None and repetition_penalty <= 0:
        raise ValidationFailed("`repetition_penalty` must be strictly positive")
    return SamplingParams(
        do_sample=temperature != 0,
        temperature=temperature,
        top_k=fields.integer("top_k", 1),
        top_p=top_p or None,
        min_p=_within(fields, "min_p", 0, 1),
        repetition_penalty=repetition_penalty,
        frequency_penalty=_within(fields, "frequency_penalty", -2, 2) or 0.0,
        presence_penalty=_within(fields, "presence_penalty", -2, 2) or 0.0,
        seed=fields.integer("seed", 0, _UNSIGNED_64 - 1),
    )


def _within(fields: Fields, name: str, lowest: float, highest: float) -> float | None:
    value = fields.number(name)
    if value is not None and not lowest <= value <= highest:
        raise ValidationFailed(f"`{name}` must be >= {lowest} and <= {highest}. Given: {value}")
    return value


def _messages(value: Any) -> tuple[dict[str, Any], ...]:
    if not isinstance(value, list) or not value:
        raise ValidationFailed("`messages` must be a list of at least one message")
    if len(value) > MAX_MESSAGES:
        raise ValidationFailed(f"`messages` may have at most {MAX_MESSAGES} entries")
    return tuple(_message(message, place) for place, message in enumerate(value))


def _message(message: Any, place: int) -> dict[str, Any]:
    """A message as templates expect it: a known role, and its content as one text."""
    if not isinstance(message, Mapping):
        raise ValidationFailed(f"`messages[{place}]` must be an object")
    role = message.get("role")
    role = "system" if role == "developer" else role
    if not isinstance(role, str) or role not in _ROLES:
        raise ValidationFailed(
            f"`messages[{place}].role` must be one of {', '.join(sorted(_ROLES))}"
        )
    return {"role": role, "content": _text(message.get("content"), place)}


def _text(content: Any, place: int) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValidationFailed(f"`messages[{place}].content` must be a string or a list of parts")
    texts = []
    for part in content:
        is_text = isinstance(part, Mapping) and part.get("type") == "text"
        if not is_text or not isinstance(part.get("text"), str):
            raise ValidationFailed(
                f"`messages[{place}].content` may only have parts of the type `text` here"
            )
        texts.append(part["text"])
    return "".join(texts)


def _refuse_unsupported(fields: Fields) -> None:
    if fields.raw("tools") and fields.raw("tool_choice") != "none":
        raise ValidationFailed("`tools` are not supported")
    response_format = fields.raw("response_format")
    if isinstance(response_format, Mapping) and response_format.get("type") != "text":
        raise ValidationFailed("`response_format` must be of the type `text`")
    if fields.integer("n", 1) not in (None, 1):
        raise ValidationFailed("`n` must be 1")
    if fields.raw("logit_bias"):
        raise ValidationFailed("`logit_bias` is not supported")
