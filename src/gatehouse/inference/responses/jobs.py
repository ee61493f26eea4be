"""Bodies of `/v1/responses` to jobs: put into the form of a chat's body, and read as one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gatehouse.core.errors import Invalid
from gatehouse.inference.chat import ChatJob, parse_chat
from gatehouse.inference.errors import ValidationFailed
from gatehouse.inference.responses.items import read_input

# What means the same in both bodies; the names after OpenAI's own are those of other servers.
_SHARED = (
    "temperature",
    "top_p",
    "stream",
    "parallel_tool_calls",
    "top_logprobs",
    "stop",
    "seed",
    "top_k",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "chat_template_kwargs",
)
_LOGPROBS = "message.output_text.logprobs"
# They need answers to be kept, which are not.
_NEEDS_STORE = ("previous_response_id", "conversation", "prompt")


class NotStored(Invalid):
    def __init__(self, field: str) -> None:
        super().__init__(
            f"`{field}` is not supported: responses are not stored here. Send the whole "
            "conversation in `input`."
        )


@dataclass(frozen=True, slots=True)
class ResponseJob:
    """A validated body.

    Attributes:
        chat: What to generate.
        said: What the answer repeats of the body.
    """

    chat: ChatJob
    said: Mapping[str, Any]


def parse_response(
    body: Mapping[str, Any], max_new_tokens_cap: int, priority: int = 0
) -> ResponseJob:
    """Read a response's body; unknown keys are ignored, null means absent.

    Raises:
        NotStored: It builds upon an earlier response.
        ValidationFailed: A field is wrong.
        ToolRefused: The tools are.
    """
    for name in _NEEDS_STORE:
        if body.get(name) is not None:
            raise NotStored(name)
    if body.get("background"):
        raise NotStored("background")
    instructions = body.get("instructions")
    if instructions is not None and not isinstance(instructions, str):
        raise ValidationFailed("`instructions` must be a string")
    tools = _tools(body.get("tools"))
    include = body.get("include")
    chat_body = {name: body.get(name) for name in _SHARED} | {
        "messages": read_input(body.get("input"), instructions),
        "max_completion_tokens": body.get("max_output_tokens"),
        "tools": tools,
        "tool_choice": _tool_choice(body.get("tool_choice")),
        "response_format": _response_format(body.get("text")),
        "logprobs": isinstance(include, list) and _LOGPROBS in include,
    }
    chat = parse_chat(chat_body, max_new_tokens_cap, priority, tools_exclude_format=False)
    return ResponseJob(chat, _said(body))


def _tools(value: Any) -> Any:
    """Functions, which are flat here, nested as in a chat."""
    if not isinstance(value, list):
        return value
    tools = []
    for place, tool in enumerate(value):
        if not isinstance(tool, Mapping) or tool.get("type") != "function":
            raise ValidationFailed(
                f"`tools[{place}]` must be of the type `function`: no other tools are run here"
            )
        function = {key: item for key, item in tool.items() if key != "type"}
        tools.append({"type": "function", "function": function})
    return tools


def _tool_choice(value: Any) -> Any:
    if isinstance(value, Mapping) and "name" in value:
        return {"type": "function", "function": {"name": value["name"]}}
    return value


def _response_format(text: Any) -> Any:
    """The format, whose schema is flat here, nested as in a chat."""
    if text is None:
        return None
    if not isinstance(text, Mapping):
        raise ValidationFailed("`text` must be an object with `format`")
    given = text.get("format")
    if isinstance(given, Mapping) and given.get("type") == "json_schema":
        return {"type": "json_schema", "json_schema": {**given}}
    return given


def _said(body: Mapping[str, Any]) -> dict[str, Any]:
    metadata = body.get("metadata")
    text = body.get("text")
    text_format = text.get("format") if isinstance(text, Mapping) else None
    return {
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "metadata": metadata if isinstance(metadata, Mapping) else {},
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "temperature": _or(body.get("temperature"), 1.0),
        "text": {"format": text_format or {"type": "text"}},
        "tool_choice": _or(body.get("tool_choice"), "auto"),
        "tools": _or(body.get("tools"), []),
        "top_p": _or(body.get("top_p"), 1.0),
    }


def _or(value: Any, fallback: Any) -> Any:
    return fallback if value is None else value
