"""An answer as the events of a streamed response, https://platform.openai.com/docs/api-reference.

Each output item is opened, filled and closed before the next; events are numbered from 0.
"""

import itertools
import secrets
import time
from collections.abc import Iterable, Iterator
from typing import Any

from gatehouse.engines.base import GeneratedToken
from gatehouse.inference.chat.answers import AnswerStep, Counts, new_call_id
from gatehouse.inference.chat.completions import logprob_shapes
from gatehouse.inference.chat.deltas import (
    CallArguments,
    CallEnd,
    CallStart,
    Delta,
    Reasoning,
    Text,
)
from gatehouse.inference.generation import Target
from gatehouse.inference.responses.jobs import ResponseJob

Event = dict[str, Any]

_CUT_OFF = "length"
_MESSAGE, _REASONING, _CALL = "message", "reasoning", "function_call"
# The part inside each kind of item, and how its events are called.
_PART = {_MESSAGE: "output_text", _REASONING: "reasoning_text"}


class ResponseEvents:
    """Makes the events of one response, and the response itself."""

    def __init__(self, target: Target, job: ResponseJob, counts: Counts) -> None:
        self._numbers = itertools.count()
        self._counts = counts
        self._with_logprobs = job.chat.with_logprobs
        self._open: dict[str, Any] | None = None
        self._pending: list[GeneratedToken] = []
        self.response: dict[str, Any] = {
            "id": f"resp_{secrets.token_hex(16)}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "background": False,
            "error": None,
            "incomplete_details": None,
            "model": target.name,
            "output": [],
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "service_tier": "default",
            "store": False,
            "top_logprobs": job.chat.num_top_logprobs,
            "truncation": "disabled",
            "usage": None,
            "user": None,
            **job.said,
        }

    def begin(self) -> Iterator[Event]:
        for name in ("created", "in_progress"):
            yield self._event(f"response.{name}", response=self._snapshot())

    def of(self, step: AnswerStep) -> Iterator[Event]:
        """The events of one step; the last one's include the end of the response."""
        if self._with_logprobs:
            self._pending += step.tokens
        for delta in step.deltas:
            yield from self._grow(delta)
        if step.end is not None:
            yield from self._finish(is_cut_off=step.end.reason == _CUT_OFF)

    def failure(self, message: str, code: str | None) -> Event:
        """What ends a stream that broke."""
        return self._event("error", code=code, message=message, param=None)

    def _grow(self, delta: Delta) -> Iterator[Event]:
        match delta:
            case Text(text):
                yield from self._add_text(_MESSAGE, text)
            case Reasoning(text):
                yield from self._add_text(_REASONING, text)
            case CallStart(_, name):
                yield from self._close()
                yield from self._open_item(_call_item(name))
            case CallArguments(_, text):
                item = self._current
                item["arguments"] += text
                name = "response.function_call_arguments.delta"
                yield self._event(name, **self._place(item), delta=text)
            case CallEnd():
                yield from self._close()

    def _finish(self, *, is_cut_off: bool) -> Iterator[Event]:
        if not self.response["output"]:
            yield from self._open_part(_MESSAGE)
        status = "incomplete" if is_cut_off else "completed"
        yield from self._close(status)
        self.response["status"] = status
        self.response["usage"] = _usage(self._counts)
        if is_cut_off:
            self.response["incomplete_details"] = {"reason": "max_output_tokens"}
        else:
            self.response["completed_at"] = int(time.time())
        yield self._event(f"response.{status}", response=self._snapshot())

    def _add_text(self, kind: str, text: str) -> Iterator[Event]:
        if self._open is None or self._open["type"] != kind:
            yield from self._close()
            yield from self._open_part(kind)
        item = self._current
        part = item["content"][0]
        part["text"] += text
        event = self._event(f"response.{_PART[kind]}.delta", **self._place_of_part(item))
        event["delta"] = text
        if kind == _MESSAGE:
            event["logprobs"] = logprobs = logprob_shapes(self._take_pending())
            part["logprobs"] += logprobs
        yield event

    def _open_part(self, kind: str) -> Iterator[Event]:
        item = _text_item(kind)
        yield from self._open_item(item)
        item["content"].append(_part(kind))
        place = self._place_of_part(item)
        yield self._event("response.content_part.added", **place, part=_part(kind))

    def _open_item(self, item: dict[str, Any]) -> Iterator[Event]:
        self._open = item
        self.response["output"].append(item)
        index = len(self.response["output"]) - 1
        # A copy: the item grows while the event waits to be sent.
        copied = item | ({"content": []} if "content" in item else {})
        yield self._event("response.output_item.added", output_index=index, item=copied)

    def _close(self, status: str = "completed") -> Iterator[Event]:
        item, self._open = self._open, None
        if item is None:
            return
        item["status"] = status
        if item["type"] == _CALL:
            place = self._place(item)
            event = self._event("response.function_call_arguments.done", **place)
            yield event | {"name": item["name"], "arguments": item["arguments"]}
        else:
            part, place = item["content"][0], self._place_of_part(item)
            logprobs = {"logprobs": part["logprobs"]} if item["type"] == _MESSAGE else {}
            name = f"response.{_PART[item['type']]}.done"
            yield self._event(name, **place, text=part["text"], **logprobs)
            yield self._event("response.content_part.done", **place, part=part)
        index = len(self.response["output"]) - 1
        yield self._event("response.output_item.done", output_index=index, item=item)

    @property
    def _current(self) -> dict[str, Any]:
        assert self._open is not None
        return self._open

    def _place(self, item: dict[str, Any]) -> dict[str, Any]:
        return {"item_id": item["id"], "output_index": len(self.response["output"]) - 1}

    def _place_of_part(self, item: dict[str, Any]) -> dict[str, Any]:
        return self._place(item) | {"content_index": 0}

    def _take_pending(self) -> Iterable[GeneratedToken]:
        pending, self._pending = self._pending, []
        return pending

    def _snapshot(self) -> dict[str, Any]:
        return self.response | {"output": list(self.response["output"])}

    def _event(self, name: str, **fields: Any) -> Event:
        return {"type": name, "sequence_number": next(self._numbers), **fields}


def _text_item(kind: str) -> dict[str, Any]:
    if kind == _MESSAGE:
        item = {"id": _item_id("msg"), "type": kind, "status": "in_progress"}
        return item | {"role": "assistant", "content": []}
    item = {"id": _item_id("rs"), "type": kind, "status": "in_progress"}
    return item | {"summary": [], "content": []}


def _call_item(name: str) -> dict[str, Any]:
    return {
        "id": _item_id("fc"),
        "type": _CALL,
        "status": "in_progress",
        "call_id": new_call_id(),
        "name": name,
        "arguments": "",
    }


def _part(kind: str) -> dict[str, Any]:
    part: dict[str, Any] = {"type": _PART[kind], "text": ""}
    return part | {"annotations": [], "logprobs": []} if kind == _MESSAGE else part


def _item_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(16)}"


def _usage(counts: Counts) -> dict[str, Any]:
    return {
        "input_tokens": counts.num_prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": counts.num_generated_tokens,
        "output_tokens_details": {"reasoning_tokens": counts.num_reasoning_tokens},
        "total_tokens": counts.num_prompt_tokens + counts.num_generated_tokens,
    }
