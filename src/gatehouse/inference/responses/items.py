"""The items of a response's input, as the messages of a chat."""

from collections.abc import Mapping
from typing import Any

from gatehouse.inference.errors import ValidationFailed

Message = dict[str, Any]

_ROLES = frozenset({"user", "assistant", "system", "developer"})
# What the parts of a message are called here, and what the chat's reader calls them.
_PARTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}


def read_input(value: Any, instructions: str | None) -> list[Message]:
    """The messages that an input stands for, the instructions first.

    Raises:
        ValidationFailed: An item is wrong, or of a kind that only OpenAI's own servers have.
    """
    messages: list[Message] = []
    if instructions:
        messages.append({"role": "system", "content": instructions})
    if isinstance(value, str):
        return [*messages, {"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        raise ValidationFailed("`input` must be a string or a list of at least one item")
    reader = _ItemReader(messages)
    for place, item in enumerate(value):
        reader.add(item, f"input[{place}]")
    return messages


class _ItemReader:
    """Puts items into messages: calls and reasoning belong to the assistant's next one."""

    def __init__(self, messages: list[Message]) -> None:
        self._messages = messages
        self._reasoning = ""

    def add(self, item: Any, where: str) -> None:
        if not isinstance(item, Mapping):
            raise ValidationFailed(f"`{where}` must be an object")
        kind = item.get("type", "message")
        if kind == "message":
            self._add_message(item, where)
        elif kind == "function_call":
            self._add_call(item, where)
        elif kind == "function_call_output":
            self._add_output(item, where)
        elif kind == "reasoning":
            self._reasoning += _reasoning_text(item)
        else:
            raise ValidationFailed(
                f"`{where}.type` must be one of `message`, `function_call`, "
                "`function_call_output`, `reasoning`"
            )

    def _add_message(self, item: Mapping[str, Any], where: str) -> None:
        role = item.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            raise ValidationFailed(f"`{where}.role` must be one of {', '.join(sorted(_ROLES))}")
        message = {"role": role, "content": _content(item.get("content"), f"{where}.content")}
        self._messages.append(self._with_reasoning(message))

    def _add_call(self, item: Mapping[str, Any], where: str) -> None:
        for name in ("call_id", "name", "arguments"):
            if not isinstance(item.get(name), str):
                raise ValidationFailed(f"`{where}.{name}` must be a string")
        last = self._messages[-1] if self._messages else None
        if last is None or last["role"] != "assistant":
            last = self._with_reasoning({"role": "assistant", "content": None})
            self._messages.append(last)
        function = {"name": item["name"], "arguments": item["arguments"]}
        call = {"id": item["call_id"], "type": "function", "function": function}
        last.setdefault("tool_calls", []).append(call)

    def _add_output(self, item: Mapping[str, Any], where: str) -> None:
        call_id = item.get("call_id")
        if not isinstance(call_id, str):
            raise ValidationFailed(f"`{where}.call_id` must be a string")
        content = _content(item.get("output"), f"{where}.output")
        self._messages.append({"role": "tool", "tool_call_id": call_id, "content": content})

    def _with_reasoning(self, message: Message) -> Message:
        if message["role"] == "assistant" and self._reasoning:
            message["reasoning_content"], self._reasoning = self._reasoning, ""
        return message


def _content(value: Any, where: str) -> Any:
    """A text, or parts under the names that the chat's reader knows."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ValidationFailed(f"`{where}` must be a string or a list of parts")
    parts = []
    for place, part in enumerate(value):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if not isinstance(kind, str):
            raise ValidationFailed(f"`{where}[{place}]` must be an object with a `type`")
        parts.append({**part, "type": _PARTS.get(kind, kind)})
    return parts


def _reasoning_text(item: Mapping[str, Any]) -> str:
    parts = item.get("content") or item.get("summary")
    texts = [part.get("text") for part in parts if isinstance(part, Mapping)] if parts else []
    return "".join(text for text in texts if isinstance(text, str))
