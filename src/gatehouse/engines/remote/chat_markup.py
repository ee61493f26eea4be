"""Writes tool calls and reasoning, which OpenAI's chunks keep apart, as marked text.

What reads the answers of our own models finds them there: see `CHAT_TRAITS`.
"""

from typing import Any

import msgspec

from gatehouse.engines.base import ChatTraits, ToolMarkup
from gatehouse.engines.remote.json_values import inner_list, inner_object, text_or_none

_REASONING = ("<think>", "</think>")
CHAT_TRAITS = ChatTraits(ToolMarkup.HERMES, *_REASONING, binds_itself=True)


class ChatMarkup:
    """One answer's text, put together from its deltas."""

    def __init__(self) -> None:
        self._is_reasoning = False
        self._open_call: object = None
        self._has_arguments = False

    def read(self, delta: dict[str, Any]) -> str:
        """The text that a delta adds."""
        # vLLM before and after its renaming, and those who follow either.
        reasoning = text_or_none(delta.get("reasoning_content"))
        reasoning = reasoning or text_or_none(delta.get("reasoning"))
        text = self._reasoning(reasoning) if reasoning else ""
        content = text_or_none(delta.get("content"))
        if content:
            text += self._end_reasoning() + self._end_call() + content
        for call in inner_list(delta.get("tool_calls")):
            text += self._tool_call(inner_object(call))
        return text

    def end(self) -> str:
        """What closes everything that is open."""
        return self._end_reasoning() + self._end_call()

    def _reasoning(self, text: str) -> str:
        start = "" if self._is_reasoning else self._end_call() + _REASONING[0]
        self._is_reasoning = True
        return start + text

    def _end_reasoning(self) -> str:
        was_reasoning, self._is_reasoning = self._is_reasoning, False
        return _REASONING[1] if was_reasoning else ""

    def _tool_call(self, call: dict[str, Any]) -> str:
        function = inner_object(call.get("function"))
        name = text_or_none(function.get("name"))
        number = (call.get("index"), call.get("id") if name else None)
        text = self._end_reasoning()
        if name and (self._open_call is None or number != self._open_call):
            text += self._end_call()
            text += f'<tool_call>\n{{"name": {msgspec.json.encode(name).decode()}, "arguments": '
            self._open_call = number
        arguments = text_or_none(function.get("arguments"))
        if arguments and self._open_call is not None:
            self._has_arguments = True
            text += arguments
        return text

    def _end_call(self) -> str:
        if self._open_call is None:
            return ""
        missing = "" if self._has_arguments else "{}"
        self._open_call, self._has_arguments = None, False
        return missing + "}\n</tool_call>"
