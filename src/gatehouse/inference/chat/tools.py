"""The tools that a caller offers to the model, and whether it must use them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gatehouse.inference.chat.nesting import refuse_deep
from gatehouse.inference.errors import ToolRefused, ValidationFailed

MAX_TOOLS = 128
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the caller can run.

    Attributes:
        parameters: JSON Schema of an object: its arguments.
        is_strict: Arguments must follow the schema, whether or not the model is made to call.
    """

    name: str
    description: str | None
    parameters: dict[str, Any]
    is_strict: bool = False

    @property
    def for_template(self) -> dict[str, Any]:
        """The tool as chat templates expect it."""
        function = {"name": self.name, "description": self.description or ""}
        return {"type": "function", "function": function | {"parameters": self.parameters}}


class ToolMode(StrEnum):
    """Whether the model calls a tool."""

    NONE = "none"
    AUTO = "auto"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """What a caller asks for.

    Attributes:
        tools: All that are offered.
        name: The one tool that must be called; None leaves the choice.
        may_repeat: Several calls may be made in one answer.
        prompt: Text to put before the tools.
    """

    tools: tuple[Tool, ...] = ()
    mode: ToolMode = ToolMode.NONE
    name: str | None = None
    may_repeat: bool = True
    prompt: str | None = None

    @property
    def is_offered(self) -> bool:
        return self.mode is not ToolMode.NONE

    @property
    def allowed(self) -> tuple[Tool, ...]:
        return tuple(tool for tool in self.tools if self.name in (None, tool.name))


NO_TOOLS = ToolChoice()


def read_tool_choice(body: Mapping[str, Any]) -> ToolChoice:
    """Read `tools`, `tool_choice`, `parallel_tool_calls` and `tool_prompt`.

    Raises:
        ValidationFailed: A field is wrong.
        ToolRefused: The tool that is chosen is not offered.
    """
    tools = _tools(body.get("tools"))
    mode, name = _mode(body.get("tool_choice"))
    if not tools:
        # Some clients send their default choice although they have no tools.
        return NO_TOOLS
    if name is not None and all(tool.name != name for tool in tools):
        raise ToolRefused(f"Tool with name {name[:64]} not found")
    prompt = body.get("tool_prompt")
    if prompt is not None and not isinstance(prompt, str):
        raise ValidationFailed("`tool_prompt` must be a string")
    may_repeat = body.get("parallel_tool_calls") is not False and name is None
    return ToolChoice(tools, mode, name, may_repeat, prompt)


def _mode(value: Any) -> tuple[ToolMode, str | None]:
    """Besides OpenAI's forms, TGI's: the name alone, and an object without `type`."""
    if value is None:
        return ToolMode.AUTO, None
    if isinstance(value, str):
        modes = {mode.value: mode for mode in ToolMode}
        return (modes[value], None) if value in modes else (ToolMode.REQUIRED, value)
    function = value.get("function") if isinstance(value, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str):
        raise ValidationFailed(
            "`tool_choice` must be `none`, `auto`, `required` or the name of a function"
        )
    return ToolMode.REQUIRED, name


def _tools(value: Any) -> tuple[Tool, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ValidationFailed("`tools` must be a list")
    if len(value) > MAX_TOOLS:
        raise ValidationFailed(f"`tools` may have at most {MAX_TOOLS} entries. Given: {len(value)}")
    tools = tuple(_tool(item, f"tools[{place}]") for place, item in enumerate(value))
    if len({tool.name for tool in tools}) < len(tools):
        raise ValidationFailed("`tools` must have different names")
    return tools


def _tool(item: Any, where: str) -> Tool:
    function = item.get("function") if isinstance(item, Mapping) else None
    if not isinstance(function, Mapping) or item.get("type", "function") != "function":
        raise ValidationFailed(f"`{where}` must be of the type `function` and have a `function`")
    name, description = function.get("name"), function.get("description")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValidationFailed(
            f"`{where}.function.name` must be 1 to 64 letters, digits, `_`, `.` or `-`"
        )
    if description is not None and not isinstance(description, str):
        raise ValidationFailed(f"`{where}.function.description` must be a string")
    # `arguments` is what TGI called them.
    parameters = function.get("parameters") or function.get("arguments") or {}
    if not isinstance(parameters, Mapping) or parameters.get("type", "object") != "object":
        raise ValidationFailed(
            f"`{where}.function.parameters` must be a JSON Schema of the type `object`"
        )
    refuse_deep(parameters, f"{where}.function.parameters")
    schema = {"type": "object", "properties": {}} | dict(parameters)
    return Tool(name, description, schema, function.get("strict") is True)
