"""What a chat template tells about the model's answers: read in its text, and tried out."""

import re
from typing import Any

from gatehouse.engines.base import (
    ChatPrompt,
    ChatTraits,
    ModelNotLoadable,
    RequestRefused,
    ToolMarkup,
)
from gatehouse.engines.text.chat_template import ChatTemplate, TemplateEndless

_TOOL_NAME = "gatehouse_probe"
_TOOL = {
    "type": "function",
    "function": {
        "name": _TOOL_NAME,
        "description": "Does nothing.",
        "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}},
    },
}
_QUESTION = {"role": "user", "content": "Hello"}
_CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "id": "call00000",
            "type": "function",
            "function": {"name": _TOOL_NAME, "arguments": {"n": 1}},
        }
    ],
}
_LLAMA_CALL = re.compile(r'\{\s*"name":[^,{}]{1,80},\s*"parameters":')
_REASONING_MARKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
)


def chat_traits(tokenizer: Any, template: ChatTemplate) -> ChatTraits | None:
    """The traits of a tokenizer's template; None without one.

    Raises:
        ModelNotLoadable: The template does not come to an end with a few words.
    """
    if not template.source:
        return None
    start, end = _reasoning_marks(tokenizer, template.source)
    opened = _rendered(template, ChatPrompt((_QUESTION,)))
    return ChatTraits(
        tool_markup=_tool_markup(template),
        reasoning_start=start,
        reasoning_end=end,
        opens_reasoning=start is not None and opened.rstrip().endswith(start),
    )


def _tool_markup(template: ChatTemplate) -> ToolMarkup | None:
    offered = _rendered(template, ChatPrompt((_QUESTION,), tools=(_TOOL,)))
    if _TOOL_NAME not in offered:
        return None
    called = _rendered(template, ChatPrompt((_QUESTION, _CALL), tools=(_TOOL,)))
    # How a call looks in a conversation is what the model was trained on; what the offer says, and
    # what the template mentions anywhere, are guesses.
    for text in (called.removeprefix(offered), offered, template.source):
        if "<tool_call>" in text:
            return ToolMarkup.HERMES
        if "[TOOL_CALLS]" in text:
            return ToolMarkup.MISTRAL
        if _LLAMA_CALL.search(text):
            return ToolMarkup.LLAMA
    return None


def _reasoning_marks(tokenizer: Any, source: str) -> tuple[str, str] | tuple[None, None]:
    """Marks that the template writes or looks for, else those that are tokens of their own."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values()}
    for start, end in _REASONING_MARKS:
        if end in source or (start in added and end in added):
            return start, end
    return None, None


def _rendered(template: ChatTemplate, prompt: ChatPrompt) -> str:
    """What the template makes of it; nothing, if it fails."""
    try:
        return template.render(prompt)
    except TemplateEndless:
        raise ModelNotLoadable("The chat template does not come to an end.") from None
    except RequestRefused:
        return ""
