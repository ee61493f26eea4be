"""The messages of a conversation, read and put in the form that chat templates expect."""

from collections.abc import Mapping
from typing import Any

import msgspec

from gatehouse.inference.chat.nesting import refuse_deep
from gatehouse.inference.errors import ValidationFailed

MAX_MESSAGES = 1024
_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    # What the role of tools was called before.
    "function": "tool",
}
# What else a message may carry, besides its content and its calls.
_TEXTS = ("name", "tool_call_id", "reasoning_content")
_TEXT_PARTS = {"text": "text", "refusal": "refusal"}
_MEDIA_PARTS = {
    "image": "an image",
    "image_url": "an image",
    "input_image": "an image",
    "audio_url": "audio",
    "input_audio": "audio",
    "video": "a video",
    "video_url": "a video",
    "input_video": "a video",
    "file": "a file",
    "input_file": "a file",
}

Message = dict[str, Any]


def read_messages(value: Any) -> tuple[Message, ...]:
    """Messages with `role` and `content`, which is one text; other keys only where they are given.

    The arguments of tool calls become objects, as templates write them as JSON themselves.

    Raises:
        ValidationFailed: A message is wrong, or holds what a text model cannot read.
    """
    if not isinstance(value, list) or not value:
        raise ValidationFailed("`messages` must be a list of at least one message")
    if len(value) > MAX_MESSAGES:
        raise ValidationFailed(f"`messages` may have at most {MAX_MESSAGES} entries")
    return tuple(_message(item, f"messages[{place}]") for place, item in enumerate(value))


def _message(item: Any, where: str) -> Message:
    if not isinstance(item, Mapping):
        raise ValidationFailed(f"`{where}` must be an object")
    role = item.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise ValidationFailed(f"`{where}.role` must be one of {', '.join(sorted(_ROLES))}")
    message: Message = {"role": _ROLES[role], "content": _content(item.get("content"), where)}
    for name in _TEXTS:
        text = item.get(name)
        if text is not None and not isinstance(text, str):
            raise ValidationFailed(f"`{where}.{name}` must be a string")
        if text:
            message[name] = text
    calls = item.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        raise ValidationFailed(f"`{where}.tool_calls` must be a list")
    if calls:
        message["tool_calls"] = [
            _call(call, f"{where}.tool_calls[{place}]") for place, call in enumerate(calls)
        ]
    return message


def _content(content: Any, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValidationFailed(f"`{where}.content` must be a string or a list of parts")
    return "".join(_part(part, f"{where}.content[{place}]") for place, part in enumerate(content))


def _part(part: Any, where: str) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if isinstance(kind, str) and kind in _MEDIA_PARTS:
        raise ValidationFailed(f"`{where}` is {_MEDIA_PARTS[kind]}, but this model reads only text")
    text = part.get(_TEXT_PARTS[kind]) if isinstance(kind, str) and kind in _TEXT_PARTS else None
    if not isinstance(text, str):
        raise ValidationFailed(f"`{where}` must be of the type `text` and have a `text`")
    return text


def _call(call: Any, where: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(name, str):
        raise ValidationFailed(f"`{where}` must have a `function` with a `name`")
    arguments = _arguments(function.get("arguments"), f"{where}.function.arguments")
    called = {"type": "function", "function": {"name": name, "arguments": arguments}}
    call_id = call.get("id")
    return called | {"id": call_id} if isinstance(call_id, str) else called


def _arguments(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value or "{}")
        except (msgspec.DecodeError, RecursionError) as error:
            raise ValidationFailed(f"`{where}` must be the JSON text of an object") from error
    if value is not None and not isinstance(value, dict):
        raise ValidationFailed(f"`{where}` must be the JSON text of an object")
    refuse_deep(value, where)
    return value or {}
