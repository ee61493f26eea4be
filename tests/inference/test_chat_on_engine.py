"""Tools, formats and reasoning on a real engine, which would say anything if it were not bound."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from tiny_models import save_tiny_llama
from tokenizers import AddedToken

from gatehouse.engines.base import ToolMarkup
from gatehouse.inference.chat import ChatCompletions, parse_chat
from gatehouse.inference.errors import GenerationRefused
from gatehouse.inference.generation import Target, TextGeneration
from gatehouse.inference.lifecycle.hosts import ModelHosts
from gatehouse.inference.lifecycle.messages import ModelSource
from gatehouse.inference.meter import Meter

pytestmark = pytest.mark.anyio

_TURNS = (
    "{% for message in messages %}<s>{{ message['role'] }}: {{ message['content'] }}"
    "{% for call in message.tool_calls or [] %}CALL{% endfor %}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant:{% endif %}"
)
_TOOLS = "{% if tools %}{% for tool in tools %}{{ tool.function.name }}{% endfor %}{% endif %}"
_CALL = '{"name": "{{ call.function.name }}", "KEY": {{ call.function.arguments | tojson }}}'
TEMPLATES = {
    None: _TURNS.replace("CALL", ""),
    ToolMarkup.HERMES: _TOOLS + _TURNS.replace("CALL", f"<tool_call>{_CALL}</tool_call>"),
    ToolMarkup.MISTRAL: _TOOLS + _TURNS.replace("CALL", f"[TOOL_CALLS] [{_CALL}]"),
    ToolMarkup.LLAMA: _TOOLS + _TURNS.replace("CALL", _CALL).replace("KEY", "parameters"),
}
MARKERS = {
    # As in Qwen's vocabularies, where they are not special, and in Mistral's, where they are.
    ToolMarkup.HERMES: [AddedToken(text) for text in ("<tool_call>", "</tool_call>")],
    ToolMarkup.MISTRAL: [AddedToken("[TOOL_CALLS]", special=True)],
}
MESSAGES = [{"role": "user", "content": "the cat"}]
SHORT = {"type": "string", "enum": ["a cat", "a dog"]}
TOOL = {
    "type": "function",
    "function": {
        "name": "pet",
        "parameters": {
            "type": "object",
            "properties": {"which": SHORT, "twice": {"type": "boolean"}},
            "required": ["which", "twice"],
            "additionalProperties": False,
        },
    },
}
SCHEMA = TOOL["function"]["parameters"]  # type: ignore[index]


@pytest.fixture
async def chat(supervisor_path: Path) -> AsyncIterator[ChatCompletions]:
    async with ModelHosts(supervisor_path) as hosts:
        yield ChatCompletions(TextGeneration(hosts))


@pytest.fixture(scope="session")
def target_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Target]:
    made: dict[str, Path] = {}

    def make(template: str, markers: list[AddedToken] | None = None) -> Target:
        if template not in made:
            folder = tmp_path_factory.mktemp("chatty")
            made[template] = save_tiny_llama(
                folder, template=template, markers=markers or [], context_length=1024
            )
        number = list(made).index(template) + 1
        version = f"{number}:{number:02}"
        source = ModelSource(version, f"someone/chatty{number}", str(made[template]), 10**6)
        return Target(source.name, version, source, Meter(), 60)

    return make


async def both_ways(chat: ChatCompletions, target: Target, **body: Any) -> dict[str, Any]:
    """The choice of a whole answer, after a look that its stream says the same."""
    job = parse_chat(
        {"messages": MESSAGES, "temperature": 0, "max_tokens": 200, **body},
        500,
        tools_exclude_format=False,
    )
    whole = (await chat.run(target, job))["choices"][0]
    content, reasoning, arguments, reason = "", "", "", None
    async with aclosing(chat.stream(target, job)) as chunks:
        async for chunk in chunks:
            (choice,) = chunk["choices"]
            delta = choice["delta"]
            content += delta.get("content") or ""
            reasoning += delta.get("reasoning_content") or ""
            for call in delta.get("tool_calls", []):
                arguments += call["function"]["arguments"]
            reason = choice["finish_reason"] or reason
    message = whole["message"]
    assert content == (message["content"] or "")
    assert reasoning == message.get("reasoning_content", "")
    calls = message.get("tool_calls", [])
    assert arguments == "".join(call["function"]["arguments"] for call in calls)
    assert reason == whole["finish_reason"]
    return dict(whole)


@pytest.mark.parametrize("markup", [None, *ToolMarkup])
async def test_required_call_follows_its_schema(
    chat: ChatCompletions, target_of: Callable[..., Target], markup: ToolMarkup | None
) -> None:
    target = target_of(TEMPLATES[markup], MARKERS.get(markup) if markup else None)
    choice = await both_ways(
        chat, target, tools=[TOOL], tool_choice="required", parallel_tool_calls=False
    )
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "pet"
    arguments = json.loads(call["function"]["arguments"])
    assert arguments["which"] in ("a cat", "a dog")
    assert isinstance(arguments["twice"], bool)
    assert choice["message"]["content"] is None


async def test_free_choice_may_be_text(
    chat: ChatCompletions, target_of: Callable[..., Target]
) -> None:
    target = target_of(TEMPLATES[ToolMarkup.HERMES], MARKERS[ToolMarkup.HERMES])
    choice = await both_ways(chat, target, tools=[TOOL], max_tokens=8)
    assert choice["finish_reason"] in ("stop", "length")
    assert isinstance(choice["message"]["content"], str)


async def test_formats_bind_the_answer(
    chat: ChatCompletions, target_of: Callable[..., Target]
) -> None:
    target = target_of(TEMPLATES[None])
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
    choice = await both_ways(chat, target, response_format=schema)
    assert json.loads(choice["message"]["content"])["which"] in ("a cat", "a dog")
    regex = {"type": "regex", "value": "[a-c]{3}/(x|y)"}
    text = (await both_ways(chat, target, response_format=regex))["message"]["content"]
    assert len(text) == 5
    assert text[3] == "/"


@pytest.mark.parametrize("is_special", [True, False])
async def test_format_binds_what_follows_the_reasoning(
    chat: ChatCompletions, target_of: Callable[..., Target], *, is_special: bool
) -> None:
    opened = TEMPLATES[None].replace("assistant:", "assistant:<think>")
    template = opened + ("" if is_special else "{# until </think> #}")
    names = ("<think>", "</think>") if is_special else ()
    markers = [AddedToken(text, special=True) for text in names]
    target = target_of(template, markers)
    schema = {"type": "json_object", "value": SCHEMA}
    bias = {}
    if is_special:
        # A random model would hardly come to an end of its own.
        manner = await chat.conversations._manner(target)
        bias = {str(manner.token_ids["</think>"]): 100}
    body = {"response_format": schema, "logit_bias": bias, "temperature": 1, "seed": 1}
    choice = await both_ways(chat, target, **body)
    if is_special:
        assert json.loads(choice["message"]["content"])["which"] in ("a cat", "a dog")
    else:
        assert choice["finish_reason"] == "length"
        assert choice["message"]["content"] is None
        assert choice["message"]["reasoning_content"]


async def test_grammar_that_cannot_be_is_refused_with_a_reason(
    chat: ChatCompletions, target_of: Callable[..., Target]
) -> None:
    job = parse_chat(
        {"messages": MESSAGES, "response_format": {"type": "json", "value": {"type": "nothing"}}},
        100,
    )
    with pytest.raises(GenerationRefused, match="grammar is not valid"):
        await chat.run(target_of(TEMPLATES[None]), job)
