"""Jobs to prompts: tools as the model's template knows them, or in plain words if it does not."""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from gatehouse.engines.base import ChatPrompt, ToolMarkup
from gatehouse.inference.chat.jobs import ChatJob
from gatehouse.inference.chat.messages import Message
from gatehouse.inference.chat.tools import ToolChoice, ToolMode

# Mistral's templates refuse ids of any other form.
_MISTRAL_ID = re.compile(r"[A-Za-z0-9]{9}")
_HOW_TO_CALL = (
    "To call one, answer with nothing but a JSON object of this form, one line for each call:\n"
    '{"name": "the name of the function", "arguments": {"the name of an argument": "its value"}}'
)
_MUST_CALL = "You must call {which} now."


def chat_prompt(job: ChatJob, markup: ToolMarkup | None) -> ChatPrompt:
    """The prompt of a job for a model whose template writes tools as `markup` says."""
    choice = job.tool_choice
    if markup is None:
        messages = _spelled_out(job.messages)
        if choice.is_offered:
            messages = _with_instructions(messages, _in_words(choice))
        tools = None
    else:
        messages = list(job.messages)
        if markup is ToolMarkup.MISTRAL:
            messages = [_with_short_ids(message) for message in messages]
        if choice.is_offered and choice.prompt:
            messages = _with_instructions(messages, choice.prompt)
        tools = tuple(tool.for_template for tool in choice.allowed) if choice.is_offered else None
    return ChatPrompt(
        tuple(messages),
        tools,
        continue_final_message=job.continues_last_message,
        template_arguments=dict(job.template_arguments),
    )


def _in_words(choice: ToolChoice) -> str:
    lines = [choice.prompt or "You can call these functions:"]
    lines += [_json(tool.for_template["function"]) for tool in choice.allowed]
    lines.append(_HOW_TO_CALL)
    if choice.mode is ToolMode.REQUIRED:
        which = f"the function {choice.name}" if choice.name else "at least one of them"
        lines.append(_MUST_CALL.format(which=which))
    return "\n".join(lines)


def _with_instructions(messages: Sequence[Message], text: str) -> list[Message]:
    """Add to the system message, or else to the first one of the user.

    Not every template takes a system message; where the caller has one, this one does.
    """
    for role in ("system", "user"):
        for place, message in enumerate(messages):
            if message["role"] == role:
                parts = (
                    [message["content"], text] if role == "system" else [text, message["content"]]
                )
                told = message | {"content": "\n\n".join(filter(None, parts))}
                return [*messages[:place], told, *messages[place + 1 :]]
    return [{"role": "system", "content": text}, *messages]


def _spelled_out(messages: Sequence[Message]) -> list[Message]:
    """Calls and results as texts of the two roles that every template has."""
    spelled: list[Message] = []
    follows_result = False
    for message in messages:
        is_result = message["role"] == "tool"
        if is_result:
            text = _result(message)
            if follows_result:
                # Templates want the roles to take turns.
                spelled[-1] = {"role": "user", "content": f"{spelled[-1]['content']}\n{text}"}
            else:
                spelled.append({"role": "user", "content": text})
        elif "tool_calls" in message:
            calls = [_json(_plain_call(call)) for call in message["tool_calls"]]
            kept = {key: value for key, value in message.items() if key != "tool_calls"}
            texts = filter(None, [message["content"], *calls])
            spelled.append(kept | {"content": "\n".join(texts)})
        else:
            spelled.append(message)
        follows_result = is_result
    return spelled


def _result(message: Message) -> str:
    name = message.get("name")
    return f"Result of {name}: {message['content']}" if name else f"Result: {message['content']}"


def _plain_call(call: dict[str, Any]) -> dict[str, Any]:
    return {"name": call["function"]["name"], "arguments": call["function"]["arguments"]}


def _with_short_ids(message: Message) -> Message:
    message = dict(message)
    if "tool_call_id" in message:
        message["tool_call_id"] = _short_id(message["tool_call_id"])
    if "tool_calls" in message:
        message["tool_calls"] = [
            call | {"id": _short_id(call.get("id", ""))} for call in message["tool_calls"]
        ]
    return message


def _short_id(call_id: str) -> str:
    if _MISTRAL_ID.fullmatch(call_id):
        return call_id
    return hashlib.sha256(call_id.encode(errors="replace")).hexdigest()[:9]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
