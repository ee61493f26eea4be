"""Answers to conversations in the shapes of OpenAI's chat completions."""

import secrets
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from gatehouse.engines.base import GeneratedToken, ScoredToken
from gatehouse.inference.chat.answers import Answer, AnswerEnd, AnswerStep, Counts, new_call_id
from gatehouse.inference.chat.conversations import Conversations
from gatehouse.inference.chat.deltas import CallArguments, CallStart, Delta, Reasoning, Text
from gatehouse.inference.chat.jobs import ChatJob
from gatehouse.inference.generation import Target, TextGeneration

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class ChatCompletions:
    """The service behind the chat routes.

    Attributes:
        conversations: What it runs jobs with.
    """

    def __init__(self, generation: TextGeneration) -> None:
        self.conversations = Conversations(generation)

    async def run(self, target: Target, job: ChatJob) -> dict[str, Any]:
        """One whole answer. Raises as `Conversations.answers` does."""
        counts = Counts()
        answers = await self.conversations.answers(target, job, counts)
        choices = [_choice(job, index, answer) for index, answer in enumerate(answers)]
        head = _head(target, "chat.completion")
        return head | {"choices": choices, "usage": usage(counts)}

    async def stream(self, target: Target, job: ChatJob) -> AsyncGenerator[dict[str, Any]]:
        """Chunks as the tokens come, and one at the end; the choices one after the other.

        Use with `contextlib.aclosing`.
        """
        head = _head(target, "chat.completion.chunk")
        counts = Counts()
        plan = await self.conversations.plan(target, job)
        for index in range(job.num_choices):
            chunks = _Chunks(job, head, index)
            steps = self.conversations.steps(target, plan, counts, index)
            async with aclosing(steps):
                async for step in steps:
                    for chunk in chunks.of(step):
                        yield chunk
        if job.include_usage:
            yield head | {"choices": [], "usage": usage(counts)}


@dataclass(slots=True)
class _Chunks:
    """Makes the chunks of one choice."""

    job: ChatJob
    head: dict[str, Any]
    index: int
    _pending: list[GeneratedToken] = field(default_factory=list)
    _is_begun: bool = False

    def of(self, step: AnswerStep) -> Iterable[dict[str, Any]]:
        if self.job.with_logprobs:
            self._pending += step.tokens
        for delta in step.deltas:
            shape = _delta(delta)
            if shape is not None:
                yield self._chunk(shape)
        if step.end is not None:
            yield self._chunk({"content": ""}, step.end)
        elif not self._is_begun:
            # The first token may be one that no text can be told of yet.
            yield self._chunk({"content": ""})

    def _chunk(self, delta: dict[str, Any], end: AnswerEnd | None = None) -> dict[str, Any]:
        self._is_begun = True
        logprobs = None
        if self._pending:
            # A token whose text is held back is told of with the next text.
            logprobs, self._pending = _logprobs(self._pending), []
        choice = {
            "index": self.index,
            # Some clients want the role in every chunk.
            "delta": {"role": "assistant"} | delta,
            "logprobs": logprobs,
            "finish_reason": None if end is None else end.reason,
        }
        return self.head | {"choices": [choice], "usage": None}


def usage(counts: Counts) -> dict[str, Any]:
    """OpenAI's count of tokens; those of the reasoning are among those of the completion."""
    return {
        "prompt_tokens": counts.num_prompt_tokens,
        "completion_tokens": counts.num_generated_tokens,
        "total_tokens": counts.num_prompt_tokens + counts.num_generated_tokens,
        "completion_tokens_details": {"reasoning_tokens": counts.num_reasoning_tokens},
    }


def logprob_shapes(tokens: Iterable[GeneratedToken]) -> list[dict[str, Any]]:
    """Each token with its bytes, its log-probability and the likeliest ones at its place."""
    return [
        _logprob(generated.token) | {"top_logprobs": [_logprob(top) for top in generated.top]}
        for generated in tokens
    ]


def _head(target: Target, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": target.name,
        "system_fingerprint": f"gatehouse-{target.version[-12:]}",
    }


def _choice(job: ChatJob, index: int, answer: Answer) -> dict[str, Any]:
    assert answer.end is not None
    return {
        "index": index,
        "message": _message(answer),
        "logprobs": _logprobs(answer.tokens) if job.with_logprobs else None,
        "finish_reason": answer.end.reason,
    }


def _message(answer: Answer) -> dict[str, Any]:
    has_other = answer.calls or answer.reasoning
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if has_other and not answer.text else answer.text,
    }
    if answer.reasoning:
        message |= _reasoning(answer.reasoning)
    if answer.calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in answer.calls
        ]
    return message


def _delta(delta: Delta) -> dict[str, Any] | None:
    match delta:
        case Text(text):
            return {"content": text}
        case Reasoning(text):
            return {"content": ""} | _reasoning(text)
        case CallStart(index, name):
            function = {"name": name, "arguments": ""}
            call = {"index": index, "id": new_call_id(), "type": "function", "function": function}
            return {"tool_calls": [call]}
        case CallArguments(index, text):
            # Clients join texts of the same key: name and id come once.
            call = {"index": index, "type": "function", "function": {"arguments": text}}
            return {"tool_calls": [call]}
        case _:
            return None


def _reasoning(text: str) -> dict[str, str]:
    """Under both names that clients look for."""
    return {"reasoning_content": text, "reasoning": text}


def _logprobs(tokens: Iterable[GeneratedToken]) -> dict[str, Any]:
    return {"content": logprob_shapes(tokens)}


def _logprob(token: ScoredToken) -> dict[str, Any]:
    is_whole = _INCOMPLETE not in token.text
    return {
        "token": token.text,
        "logprob": token.logprob,
        "bytes": list(token.text.encode()) if is_whole else None,
    }
