"""Chat answers and chunks in OpenAI's shapes, from a model that says what is written down."""

import json
from contextlib import aclosing
from typing import Any

import pytest
from scripted_models import NUM_PROMPT_TOKENS, ScriptedModel, make_target

from gatehouse.engines.base import (
    ChatPrompt,
    ChatTraits,
    FinishReason,
    Grammar,
    GrammarKind,
    ToolMarkup,
)
from gatehouse.inference.chat import ChatCompletions, parse_chat
from gatehouse.inference.errors import GenerationFailed

pytestmark = pytest.mark.anyio

MESSAGES = [{"role": "user", "content": "What is the weather in Oslo?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather now",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
TIME = {"type": "function", "function": {"name": "get_time"}}
HERMES = ChatTraits(ToolMarkup.HERMES)
THINKER = ChatTraits(reasoning_start="<think>", reasoning_end="</think>")
CALL_TEXT = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


async def answer(model: ScriptedModel, **body: Any) -> dict[str, Any]:
    job = parse_chat({"messages": MESSAGES, **body}, 100, tools_exclude_format=False)
    return await ChatCompletions(model.generation).run(make_target(), job)


async def chunks_of(model: ScriptedModel, **body: Any) -> list[dict[str, Any]]:
    job = parse_chat({"messages": MESSAGES, **body}, 100, tools_exclude_format=False)
    async with aclosing(ChatCompletions(model.generation).stream(make_target(), job)) as stream:
        return [chunk async for chunk in stream]


def joined(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """What a client puts together from the chunks of one choice."""
    message: dict[str, Any] = {"content": "", "reasoning_content": "", "tool_calls": []}
    for chunk in chunks:
        for choice in chunk["choices"]:
            delta = choice["delta"]
            for key in ("content", "reasoning_content"):
                message[key] += delta.get(key) or ""
            for piece in delta.get("tool_calls") or []:
                if "id" in piece:
                    assert piece["index"] == len(message["tool_calls"])
                    message["tool_calls"].append({"name": piece["function"]["name"], "text": ""})
                message["tool_calls"][piece["index"]]["text"] += piece["function"]["arguments"]
    return message


def characters(text: str) -> list[str]:
    return list(text)


async def test_answer_has_every_key_that_clients_read() -> None:
    found = await answer(ScriptedModel())
    assert found["object"] == "chat.completion"
    assert found["id"].startswith("chatcmpl-")
    assert found["model"] == "someone/scripted"
    assert found["system_fingerprint"]
    assert found["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello there"},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert found["usage"]["prompt_tokens"] == NUM_PROMPT_TOKENS
    assert found["usage"]["completion_tokens"] == 3
    assert found["usage"]["total_tokens"] == NUM_PROMPT_TOKENS + 3


async def test_chunks_have_one_id_a_role_each_and_usage_only_if_asked() -> None:
    chunks = await chunks_of(ScriptedModel(), stream_options={"include_usage": True})
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert len({chunk["created"] for chunk in chunks}) == 1
    *texts, end, last = chunks
    assert [chunk["choices"][0]["delta"] for chunk in texts] == [
        {"role": "assistant", "content": "Hello"},
        {"role": "assistant", "content": " there"},
    ]
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in texts)
    assert all(chunk["usage"] is None for chunk in [*texts, end])
    assert end["choices"][0]["finish_reason"] == "stop"
    assert last["choices"] == []
    assert last["usage"] == (await answer(ScriptedModel()))["usage"]
    assert len(await chunks_of(ScriptedModel())) == 3


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        (FinishReason.EOS_TOKEN, "stop"),
        (FinishReason.STOP_SEQUENCE, "stop"),
        (FinishReason.LENGTH, "length"),
    ],
)
async def test_finish_reasons_are_openais(reason: FinishReason, word: str) -> None:
    model = ScriptedModel(reason=reason)
    assert (await answer(model))["choices"][0]["finish_reason"] == word
    assert (await chunks_of(model))[-1]["choices"][0]["finish_reason"] == word


async def test_logprobs_come_with_their_tokens_bytes_and_rivals() -> None:
    model = ScriptedModel(["Zoë", "\ufffd"])
    found = await answer(model, logprobs=True, top_logprobs=2)
    first, second = found["choices"][0]["logprobs"]["content"]
    assert first["token"] == "Zoë"
    assert bytes(first["bytes"]).decode() == "Zoë"
    assert first["logprob"] == -0.5
    assert [top["token"] for top in first["top_logprobs"]] == ["Zoë", "Zoë"]
    assert second["bytes"] is None, "half a character has bytes that nobody knows here"
    chunks = await chunks_of(model, logprobs=True, top_logprobs=2)
    parts = [chunk["choices"][0]["logprobs"] for chunk in chunks if chunk["choices"]]
    assert [item for part in parts if part for item in part["content"]] == [first, second]
    await answer(model)
    assert [request.with_logprobs for request in model.requests] == [True, True, False]
    assert model.requests[0].num_top_tokens == 2


async def test_several_choices_have_seeds_of_their_own() -> None:
    model = ScriptedModel()
    found = await answer(model, n=2, seed=5)
    assert [choice["index"] for choice in found["choices"]] == [0, 1]
    assert {request.sampling.seed for request in model.requests} == {5, 6}
    assert found["usage"]["prompt_tokens"] == NUM_PROMPT_TOKENS, "the prompt counts once"
    assert found["usage"]["completion_tokens"] == 6
    chunks = await chunks_of(model, n=2)
    ends = [c["choices"][0] for c in chunks if c["choices"][0]["finish_reason"]]
    assert [end["index"] for end in ends] == [0, 1]


async def test_stream_that_breaks_raises_after_its_first_chunks() -> None:
    model = ScriptedModel(breaks_after=1)
    job = parse_chat({"messages": MESSAGES}, 100)
    seen = []
    with pytest.raises(GenerationFailed):  # noqa: PT012 - the chunks before it matter too
        async with aclosing(ChatCompletions(model.generation).stream(make_target(), job)) as stream:
            async for chunk in stream:
                seen.append(chunk)  # noqa: PERF401 - it raises in the middle
    assert seen[0]["choices"][0]["delta"]["content"] == "Hello"


async def test_what_a_model_is_like_is_asked_once() -> None:
    model = ScriptedModel(traits=HERMES, token_ids={"<tool_call>": 9})
    chat = ChatCompletions(model.generation)
    job = parse_chat({"messages": MESSAGES}, 100)
    await chat.run(make_target(), job)
    num_holds = model.num_holds
    await chat.run(make_target(), job)
    assert model.num_holds == num_holds + 1, "only to generate"


class TestReasoning:
    pieces = ("<think>", "\n", "Hm", "m.", "\n", "</th", "ink>", "\n\n", "It ", "rains.")

    async def test_reasoning_is_kept_apart_from_the_answer(self) -> None:
        model = ScriptedModel(self.pieces, THINKER)
        found = await answer(model)
        message = found["choices"][0]["message"]
        assert message["content"] == "It rains."
        assert message["reasoning_content"] == message["reasoning"] == "Hmm."
        assert found["usage"]["completion_tokens_details"]["reasoning_tokens"] == 6
        whole = joined(await chunks_of(model))
        assert (whole["content"], whole["reasoning_content"]) == ("It rains.", "Hmm.")

    async def test_reasoning_may_begin_in_the_prompt(self) -> None:
        traits = ChatTraits(None, "<think>", "</think>", opens_reasoning=True)
        found = await answer(ScriptedModel(self.pieces[1:], traits))
        assert found["choices"][0]["message"]["reasoning_content"] == "Hmm."
        switched_off = await answer(
            ScriptedModel(["It ", "rains."], traits), chat_template_kwargs={"thinking": False}
        )
        assert switched_off["choices"][0]["message"]["content"] == "It rains."

    async def test_answer_cut_off_while_reasoning_has_no_content(self) -> None:
        model = ScriptedModel(self.pieces[:4], THINKER, FinishReason.LENGTH)
        message = (await answer(model))["choices"][0]["message"]
        assert message["content"] is None
        assert message["reasoning_content"] == "Hmm."

    async def test_format_binds_only_what_follows(self) -> None:
        model = ScriptedModel(traits=THINKER, token_ids={"</think>": 77})
        await answer(model, response_format={"type": "json_object"})
        grammar = model.requests[0].grammar
        assert grammar is not None
        assert grammar.kind is GrammarKind.LARK
        assert "<[77]>" in grammar.text
        assert "%json" in grammar.text

    async def test_markers_that_are_special_tokens_are_seen(self) -> None:
        model = ScriptedModel(
            ["<think>", "Hm.", "</think>", "It", "<|other|>", " rains."],
            THINKER,
            special=frozenset({"<think>", "</think>", "<|other|>"}),
        )
        message = (await answer(model))["choices"][0]["message"]
        assert (message["reasoning_content"], message["content"]) == ("Hm.", "It rains.")


class TestTools:
    async def test_call_in_free_text_becomes_a_call(self) -> None:
        model = ScriptedModel(characters(CALL_TEXT), HERMES)
        found = await answer(model, tools=[WEATHER])
        (choice,) = found["choices"]
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"]["content"] is None
        (call,) = choice["message"]["tool_calls"]
        assert call["id"].startswith("call_")
        assert call["type"] == "function"
        assert call["function"] == {"name": "get_weather", "arguments": '{"city": "Oslo"}'}
        request = model.requests[0]
        assert request.grammar is None
        assert request.show_special
        assert isinstance(request.prompt, ChatPrompt)
        assert request.prompt.tools is not None
        assert request.prompt.tools[0]["function"]["name"] == "get_weather"

    async def test_streamed_call_has_its_name_once(self) -> None:
        model = ScriptedModel(characters(CALL_TEXT), HERMES)
        chunks = await chunks_of(model, tools=[WEATHER])
        whole = joined(chunks)
        assert whole["tool_calls"] == [{"name": "get_weather", "text": '{"city": "Oslo"}'}]
        assert whole["content"] == ""
        assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
        pieces = [
            piece for c in chunks for piece in c["choices"][0]["delta"].get("tool_calls") or []
        ]
        assert [piece["function"].get("name") for piece in pieces if "id" in piece] == [
            "get_weather"
        ]
        assert all("name" not in piece["function"] for piece in pieces if "id" not in piece)

    async def test_required_call_is_bound_and_streams_its_arguments_as_they_come(self) -> None:
        model = ScriptedModel(characters(CALL_TEXT), HERMES)
        chunks = await chunks_of(model, tools=[WEATHER, TIME], tool_choice="required")
        grammar = model.requests[0].grammar
        assert grammar is not None
        assert "get_time" in grammar.text
        pieces = [
            piece["function"]["arguments"]
            for chunk in chunks
            for piece in chunk["choices"][0]["delta"].get("tool_calls") or []
        ]
        assert len(pieces) > 10, "one after the other, not all at the end"
        assert json.loads("".join(pieces)) == {"city": "Oslo"}

    async def test_named_choice_binds_to_that_tool(self) -> None:
        model = ScriptedModel(characters(CALL_TEXT), HERMES)
        choice = {"type": "function", "function": {"name": "get_weather"}}
        found = await answer(model, tools=[WEATHER, TIME], tool_choice=choice)
        assert found["choices"][0]["finish_reason"] == "tool_calls"
        grammar = model.requests[0].grammar
        assert grammar is not None
        assert "get_weather" in grammar.text
        assert "get_time" not in grammar.text

    async def test_arguments_that_are_cut_off_end_by_length(self) -> None:
        text = CALL_TEXT[:55]
        model = ScriptedModel(characters(text), HERMES, FinishReason.LENGTH)
        bound = await answer(model, tools=[WEATHER], tool_choice="required")
        assert bound["choices"][0]["finish_reason"] == "length"
        free = (await answer(model, tools=[WEATHER]))["choices"][0]
        assert free["finish_reason"] == "length"
        assert free["message"] == {"role": "assistant", "content": text}

    async def test_answer_that_is_cut_off_in_its_second_call_ends_by_length(self) -> None:
        text = f"{CALL_TEXT}\n{CALL_TEXT[:55]}"
        model = ScriptedModel(characters(text), HERMES, FinishReason.LENGTH)
        (choice,) = (await answer(model, tools=[WEATHER], tool_choice="required"))["choices"]
        assert choice["finish_reason"] == "length"
        whole, cut = choice["message"]["tool_calls"]
        assert json.loads(whole["function"]["arguments"]) == {"city": "Oslo"}
        assert '{"city": "Oslo"}'.startswith(cut["function"]["arguments"])

    async def test_what_only_looks_like_a_call_hides_none(self) -> None:
        model = ScriptedModel(characters("<tool_call> is how. " + CALL_TEXT), HERMES)
        message = (await answer(model, tools=[WEATHER]))["choices"][0]["message"]
        assert message["content"] == "<tool_call> is how."
        assert len(message["tool_calls"]) == 1

    async def test_escaped_signs_in_arguments_do_not_end_them(self) -> None:
        arguments = json.dumps({"city": 'a "b}" \\'})
        text = CALL_TEXT.replace('{"city": "Oslo"}', arguments)
        for choice in ("required", "auto"):
            model = ScriptedModel(characters(text), HERMES)
            whole = joined(await chunks_of(model, tools=[WEATHER], tool_choice=choice))
            assert whole["tool_calls"] == [{"name": "get_weather", "text": arguments}]

    async def test_strict_tools_are_bound_although_nothing_must_be_called(self) -> None:
        strict = {"type": "function", "function": {**WEATHER["function"], "strict": True}}  # type: ignore[dict-item]
        model = ScriptedModel(characters("Let me see.\n" + CALL_TEXT), HERMES)
        found = await answer(model, tools=[strict])
        assert model.requests[0].grammar is not None
        message = found["choices"][0]["message"]
        assert message["content"] == "Let me see."
        assert message["tool_calls"][0]["function"]["arguments"] == '{"city": "Oslo"}'

    async def test_no_choice_keeps_the_tools_from_the_model(self) -> None:
        model = ScriptedModel(characters(CALL_TEXT), HERMES)
        found = await answer(model, tools=[WEATHER], tool_choice="none")
        assert found["choices"][0]["message"]["content"] == CALL_TEXT
        prompt = model.requests[0].prompt
        assert isinstance(prompt, ChatPrompt)
        assert prompt.tools is None

    async def test_template_without_tools_is_told_in_words(self) -> None:
        model = ScriptedModel(['{"name": "get_weather", ', '"arguments": {"city": "Oslo"}}'])
        found = await answer(model, tools=[WEATHER], tool_prompt="Use these:")
        prompt = model.requests[0].prompt
        assert isinstance(prompt, ChatPrompt)
        assert prompt.tools is None
        content = prompt.messages[0]["content"]
        assert content.startswith("Use these:")
        assert "The weather now" in content
        assert content.endswith("What is the weather in Oslo?")
        assert found["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "get_weather"

    async def test_only_the_first_call_counts_where_one_is_asked_for(self) -> None:
        model = ScriptedModel(characters(CALL_TEXT * 2), HERMES)
        both = await answer(model, tools=[WEATHER])
        assert len(both["choices"][0]["message"]["tool_calls"]) == 2
        one = await answer(model, tools=[WEATHER], parallel_tool_calls=False)
        assert len(one["choices"][0]["message"]["tool_calls"]) == 1

    async def test_marker_that_is_a_special_token_is_seen(self) -> None:
        model = ScriptedModel(
            ["[TOOL_CALLS]", ' [{"name": "get_weather", "arguments": {}}]'],
            ChatTraits(ToolMarkup.MISTRAL),
            special=frozenset({"[TOOL_CALLS]"}),
        )
        found = await answer(model, tools=[WEATHER])
        assert found["choices"][0]["finish_reason"] == "tool_calls"

    async def test_format_beside_tools_leaves_both_open(self) -> None:
        model = ScriptedModel(['{"a": 1}'], HERMES)
        schema = {"name": "a", "schema": {"type": "object"}}
        found = await answer(
            model,
            tools=[WEATHER],
            response_format={"type": "json_schema", "json_schema": schema},
        )
        assert found["choices"][0]["message"]["content"] == '{"a": 1}'
        grammar = model.requests[0].grammar
        assert grammar is not None
        assert "get_weather" in grammar.text


async def test_last_message_of_the_assistant_is_continued() -> None:
    model = ScriptedModel()
    await answer(model, messages=[*MESSAGES, {"role": "assistant", "content": "It "}])
    prompt = model.requests[0].prompt
    assert isinstance(prompt, ChatPrompt)
    assert prompt.continue_final_message


class TestModelsThatBindThemselves:
    """Servers of others, which keep calls, reasoning and answer apart on their own."""

    traits = ChatTraits(ToolMarkup.HERMES, "<think>", "</think>", binds_itself=True)

    async def test_format_is_passed_on_as_it_is(self) -> None:
        for tools in ([], [WEATHER]):
            model = ScriptedModel(traits=self.traits)
            await answer(model, tools=tools, response_format={"type": "json_object"})
            assert model.requests[0].grammar == Grammar(GrammarKind.JSON_OBJECT)

    async def test_named_tool_is_the_only_one_that_is_offered(self) -> None:
        model = ScriptedModel(characters(CALL_TEXT), self.traits)
        await answer(model, tools=[WEATHER, TIME], tool_choice="get_weather")
        request = model.requests[0]
        assert request.grammar is not None
        assert request.grammar.kind is GrammarKind.LARK
        assert isinstance(request.prompt, ChatPrompt)
        assert request.prompt.tools is not None
        assert [tool["function"]["name"] for tool in request.prompt.tools] == ["get_weather"]

    async def test_strict_tools_are_not_forced(self) -> None:
        strict = {"type": "function", "function": {"name": "get_time", "strict": True}}
        model = ScriptedModel(traits=self.traits)
        await answer(model, tools=[strict])
        assert model.requests[0].grammar is None
