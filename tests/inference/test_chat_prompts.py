"""Tools in prompts: by the template's own means, or in words that any template can carry."""

from typing import Any

from gatehouse.engines.base import ChatPrompt, ToolMarkup
from gatehouse.inference.chat import parse_chat
from gatehouse.inference.chat.prompts import chat_prompt

USER = {"role": "user", "content": "Add."}
SYSTEM = {"role": "system", "content": "Be brief."}
CALLS = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": f"call_{number}", "function": {"name": "add", "arguments": f'{{"a": {number}}}'}}
        for number in range(2)
    ],
}
RESULTS = [
    {"role": "tool", "tool_call_id": "call_0", "content": "1"},
    {"role": "tool", "tool_call_id": "call_1", "content": "2", "name": "add"},
]
ADD = {
    "type": "function",
    "function": {"name": "add", "description": "Adds up", "parameters": {"type": "object"}},
}
OTHER = {"type": "function", "function": {"name": "other"}}


def prompt(markup: ToolMarkup | None, messages: list[Any], **body: Any) -> ChatPrompt:
    return chat_prompt(parse_chat({"messages": messages, **body}, 100), markup)


def test_template_gets_the_tools_it_knows() -> None:
    found = prompt(ToolMarkup.HERMES, [USER], tools=[ADD])
    assert found.messages == (USER,)
    assert found.tools is not None
    assert found.tools[0]["function"]["description"] == "Adds up"
    assert found.tools[0]["function"]["parameters"]["type"] == "object"


def test_named_tool_alone_is_offered() -> None:
    found = prompt(ToolMarkup.HERMES, [USER], tools=[ADD, OTHER], tool_choice="other")
    assert [tool["function"]["name"] for tool in found.tools or ()] == ["other"]


def test_text_before_the_tools_goes_to_the_system_message() -> None:
    found = prompt(ToolMarkup.LLAMA, [SYSTEM, USER], tools=[ADD], tool_prompt="Take care.")
    assert found.messages == ({"role": "system", "content": "Be brief.\n\nTake care."}, USER)


def test_mistral_gets_ids_that_its_template_takes() -> None:
    found = prompt(ToolMarkup.MISTRAL, [USER, CALLS, *RESULTS], tools=[ADD])
    _, called, *told = found.messages
    ids = [call["id"] for call in called["tool_calls"]]
    assert all(len(call_id) == 9 and call_id.isalnum() for call_id in ids)
    assert ids == [message["tool_call_id"] for message in told]
    assert len(set(ids)) == 2
    own = {**RESULTS[0], "tool_call_id": "abcDEF123"}
    assert prompt(ToolMarkup.MISTRAL, [own]).messages[0]["tool_call_id"] == "abcDEF123"


class TestInWords:
    def test_tools_are_told_where_the_caller_speaks(self) -> None:
        (found,) = prompt(None, [USER], tools=[ADD]).messages
        assert found["role"] == "user"
        assert found["content"].endswith("\n\nAdd.")
        assert '"description": "Adds up"' in found["content"]
        assert '{"name": ' in found["content"]
        assert "must call" not in found["content"]

    def test_system_message_takes_them_if_there_is_one(self) -> None:
        system, user = prompt(None, [SYSTEM, USER], tools=[ADD]).messages
        assert system["content"].startswith("Be brief.\n\nYou can call")
        assert user == USER
        (alone,) = prompt(None, [{"role": "assistant", "content": ""}], tools=[ADD]).messages[:1]
        assert alone["role"] == "system"

    def test_necessity_is_told_too(self) -> None:
        required = prompt(None, [USER], tools=[ADD], tool_choice="required").messages[0]
        assert "You must call at least one of them now." in required["content"]
        named = prompt(None, [USER], tools=[ADD, OTHER], tool_choice="add").messages[0]
        assert "You must call the function add now." in named["content"]
        assert "other" not in named["content"]

    def test_calls_and_results_are_turns_of_the_two(self) -> None:
        found = prompt(None, [USER, CALLS, *RESULTS])
        assert [message["role"] for message in found.messages] == ["user", "assistant", "user"]
        assert found.messages[1]["content"] == (
            '{"name": "add", "arguments": {"a": 0}}\n{"name": "add", "arguments": {"a": 1}}'
        )
        assert found.messages[2]["content"] == "Result: 1\nResult of add: 2"
        assert not found.continue_final_message
