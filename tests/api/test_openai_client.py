"""The unmodified `openai` client against the chat and response routes, in process.

The model says what each test wrote down; everything else is the hub.
"""

from collections.abc import Iterator
from dataclasses import replace
from enum import Enum
from typing import Any

import openai
import pytest
from factories import Hub
from pydantic import BaseModel
from scripted_models import NUM_PROMPT_TOKENS, ScriptedModel

from gatehouse.engines.base import ChatTraits, FinishReason, GrammarKind, ToolMarkup
from gatehouse.inference.chat import ChatCompletions

MODEL = "olga/scripted"
MESSAGES: Any = [{"role": "user", "content": "What is the weather in Oslo?"}]
HERMES = ChatTraits(ToolMarkup.HERMES)
ARGUMENTS = '{"city": "Oslo", "unit": "celsius"}'
CALL_TEXT = f'<tool_call>\n{{"name": "GetWeather", "arguments": {ARGUMENTS}}}\n</tool_call>'


class Unit(Enum):
    CELSIUS = "celsius"
    KELVIN = "kelvin"


class GetWeather(BaseModel):
    """The weather now."""

    city: str
    unit: Unit


class Speaker:
    """Lets a test say what the model says, and hands out clients."""

    def __init__(self, hub: Hub, token: str) -> None:
        self.hub = hub
        self._token = token
        self.model = ScriptedModel()

    def says(self, *pieces: str, **how: Any) -> ScriptedModel:
        self.model = ScriptedModel(pieces, **how)
        chat = ChatCompletions(self.model.generation)
        self.hub.app.state.services = replace(self.hub.services, chat=chat)
        return self.model

    def client(self, base: str = "/v1") -> Any:
        return openai.OpenAI(
            base_url=f"http://hub.test{base}",
            api_key=self._token,
            http_client=self.hub.client,
            max_retries=0,
        )

    @property
    def grammar(self) -> Any:
        return self.model.requests[-1].grammar


@pytest.fixture
def speaker(hub: Hub) -> Iterator[Speaker]:
    olga = hub.make_user("olga")
    files = {"model.safetensors": b"weights", "config.json": b"{}"}
    hub.make_repo(olga, "scripted", files=files)
    yield Speaker(hub, olga.read["Authorization"].removeprefix("Bearer "))
    hub.app.state.services = hub.services


def complete(speaker: Speaker, **body: Any) -> Any:
    create = speaker.client().chat.completions.create
    return create(**{"model": MODEL, "messages": MESSAGES} | body)


def respond(speaker: Speaker, **body: Any) -> Any:
    create = speaker.client().responses.create
    return create(**{"model": MODEL, "input": "What is the weather in Oslo?"} | body)


class TestChat:
    def test_answer_with_logprobs(self, speaker: Speaker) -> None:
        speaker.says("Cold", "!")
        answer = complete(speaker, logprobs=True, top_logprobs=1, seed=3, user="u", store=True)
        (choice,) = answer.choices
        assert choice.message.content == "Cold!"
        assert choice.finish_reason == "stop"
        assert [item.token for item in choice.logprobs.content] == ["Cold", "!"]
        assert choice.logprobs.content[0].top_logprobs[0].logprob == -0.5
        assert answer.model == MODEL
        assert answer.usage.prompt_tokens == NUM_PROMPT_TOKENS

    def test_streamed_chunks_join_to_the_answer(self, speaker: Speaker) -> None:
        speaker.says("Cold", "!")
        chunks = list(complete(speaker, stream=True, stream_options={"include_usage": True}))
        texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
        assert "".join(texts) == "Cold!"
        assert chunks[-1].usage.completion_tokens == 3

    def test_stream_helper_puts_the_message_together(self, speaker: Speaker) -> None:
        speaker.says(*CALL_TEXT, traits=HERMES)
        tools = [openai.pydantic_function_tool(GetWeather)]
        stream = speaker.client().chat.completions.stream(
            model=MODEL, messages=MESSAGES, tools=tools, tool_choice="required"
        )
        with stream as events:
            kinds = [event.type for event in events]
            answer = events.get_final_completion()
        assert kinds.count("tool_calls.function.arguments.delta") > 10
        (choice,) = answer.choices
        assert choice.message.role == "assistant"
        assert choice.finish_reason == "tool_calls"
        (call,) = choice.message.tool_calls
        assert call.function.parsed_arguments == GetWeather(city="Oslo", unit=Unit.CELSIUS)

    def test_parsed_format_is_an_object_of_the_class(self, speaker: Speaker) -> None:
        speaker.says(ARGUMENTS)
        answer = speaker.client().chat.completions.parse(
            model=MODEL, messages=MESSAGES, response_format=GetWeather
        )
        assert answer.choices[0].message.parsed == GetWeather(city="Oslo", unit=Unit.CELSIUS)
        assert speaker.grammar.kind is GrammarKind.JSON_SCHEMA
        assert "kelvin" in speaker.grammar.text

    def test_format_may_stand_beside_tools(self, speaker: Speaker) -> None:
        speaker.says(*CALL_TEXT, traits=HERMES)
        answer = speaker.client().chat.completions.parse(
            model=MODEL,
            messages=MESSAGES,
            response_format=GetWeather,
            tools=[openai.pydantic_function_tool(GetWeather)],
        )
        assert answer.choices[0].message.tool_calls[0].function.name == "GetWeather"

    def test_call_and_result_go_back_to_the_model(self, speaker: Speaker) -> None:
        speaker.says(*CALL_TEXT, traits=HERMES)
        tools = [openai.pydantic_function_tool(GetWeather)]
        message = complete(speaker, tools=tools).choices[0].message
        result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "-3"}
        model = speaker.says("Cold!", traits=HERMES)
        complete(speaker, messages=[*MESSAGES, message, result], tools=tools)
        _, called, told = model.requests[0].prompt.messages  # type: ignore[union-attr]
        assert called["tool_calls"][0]["function"]["arguments"]["city"] == "Oslo"
        assert told["tool_call_id"] == called["tool_calls"][0]["id"]

    def test_error_is_an_object_for_this_client(self, speaker: Speaker) -> None:
        speaker.says("x")
        for base in ("/v1", f"/models/{MODEL}/v1"):
            create = speaker.client(base).chat.completions.create
            with pytest.raises(openai.UnprocessableEntityError) as refused:
                create(model=MODEL, messages=MESSAGES, temperature=3)
            error: Any = refused.value.body
            assert error["type"] == "invalid_request_error"
            assert "`temperature` must be >= 0" in error["message"]
        with pytest.raises(openai.BadRequestError, match="`n` must be"):
            complete(speaker, n=3)

    def test_error_midway_is_raised(self, speaker: Speaker) -> None:
        speaker.says("Cold", "!", breaks_after=1)
        stream = complete(speaker, stream=True)
        assert next(stream).choices[0].delta.content == "Cold"
        with pytest.raises(openai.APIError, match="it broke"):
            next(stream)


class TestResponses:
    def test_text_and_usage(self, speaker: Speaker) -> None:
        model = speaker.says("Cold", "!")
        answer = respond(speaker, instructions="Be brief.", max_output_tokens=9, store=True)
        assert answer.output_text == "Cold!"
        assert answer.status == "completed"
        assert answer.model == MODEL
        assert answer.usage.input_tokens == NUM_PROMPT_TOKENS
        assert answer.usage.output_tokens == 3
        assert answer.usage.output_tokens_details.reasoning_tokens == 0
        assert answer.instructions == "Be brief."
        request = model.requests[0]
        assert request.max_new_tokens == 9
        assert request.prompt.messages[0] == {  # type: ignore[union-attr]
            "role": "system",
            "content": "Be brief.",
        }

    def test_events_come_in_order_and_are_numbered(self, speaker: Speaker) -> None:
        speaker.says("Cold", "!")
        events = list(respond(speaker, stream=True))
        assert [event.type for event in events] == [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert events[0].response.output == []
        assert events[2].item.content == []
        assert events[3].part.text == ""
        assert events[6].text == "Cold!"
        assert events[-1].response.output_text == "Cold!"
        assert len({e.response.id for e in events if hasattr(e, "response")}) == 1

    def test_reasoning_is_an_item_of_its_own(self, speaker: Speaker) -> None:
        traits = ChatTraits(None, "<think>", "</think>")
        speaker.says("<think>", "Hm.", "</think>", "Cold!", traits=traits)
        answer = respond(speaker)
        reasoning, message = answer.output
        assert reasoning.type == "reasoning"
        assert reasoning.content[0].text == "Hm."
        assert message.content[0].text == "Cold!"
        assert answer.usage.output_tokens_details.reasoning_tokens > 0
        kinds = [event.type for event in respond(speaker, stream=True)]
        assert kinds.index("response.reasoning_text.done") < kinds.index(
            "response.output_text.delta"
        )

    def test_stream_helper_parses_calls(self, speaker: Speaker) -> None:
        speaker.says(*CALL_TEXT, traits=HERMES)
        tool = openai.pydantic_function_tool(GetWeather)["function"]
        stream = speaker.client().responses.stream(
            model=MODEL,
            input="What is the weather in Oslo?",
            tools=[{"type": "function", **tool}],
            tool_choice={"type": "function", "name": "GetWeather"},
        )
        with stream as events:
            kinds = [event.type for event in events]
            answer = events.get_final_response()
        assert kinds.count("response.function_call_arguments.delta") > 10
        assert "response.function_call_arguments.done" in kinds
        (call,) = answer.output
        assert call.type == "function_call"
        assert call.call_id.startswith("call_")
        assert GetWeather.model_validate_json(call.arguments).city == "Oslo"

    def test_call_and_result_go_back_as_items(self, speaker: Speaker) -> None:
        speaker.says(*CALL_TEXT, traits=HERMES)
        tool = {"type": "function", "name": "GetWeather", "parameters": {"type": "object"}}
        first = respond(speaker, tools=[tool])
        (call,) = first.output
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "-3"}
        model = speaker.says("Cold!", traits=HERMES)
        respond(speaker, tools=[tool], input=[*MESSAGES, call, result])
        _, called, told = model.requests[0].prompt.messages  # type: ignore[union-attr]
        assert called["tool_calls"][0]["function"]["arguments"]["city"] == "Oslo"
        assert told == {"role": "tool", "tool_call_id": call.call_id, "content": "-3"}

    def test_earlier_output_goes_back_whole(self, speaker: Speaker) -> None:
        traits = ChatTraits(ToolMarkup.HERMES, "<think>", "</think>")
        speaker.says("<think>", "Hm.", "</think>", *CALL_TEXT, traits=traits)
        tool = {"type": "function", "name": "GetWeather", "parameters": {"type": "object"}}
        output = respond(speaker, tools=[tool]).output
        assert [(item.type, item.status) for item in output] == [
            ("reasoning", "completed"),
            ("function_call", "completed"),
        ]
        model = speaker.says("Cold!", traits=traits)
        respond(speaker, tools=[tool], input=[*MESSAGES, *output])
        _, called = model.requests[0].prompt.messages  # type: ignore[union-attr]
        assert called["reasoning_content"] == "Hm."
        assert called["tool_calls"][0]["function"]["name"] == "GetWeather"

    def test_parsed_format_is_an_object_of_the_class(self, speaker: Speaker) -> None:
        speaker.says(ARGUMENTS)
        answer = speaker.client().responses.parse(
            model=MODEL, input="weather", text_format=GetWeather
        )
        assert answer.output_parsed == GetWeather(city="Oslo", unit=Unit.CELSIUS)
        assert "kelvin" in speaker.grammar.text

    def test_answer_that_was_cut_off_says_so(self, speaker: Speaker) -> None:
        speaker.says("Cold", reason=FinishReason.LENGTH)
        answer = respond(speaker)
        assert answer.status == "incomplete"
        assert answer.incomplete_details.reason == "max_output_tokens"
        assert answer.output[0].status == "incomplete"
        assert [event.type for event in respond(speaker, stream=True)][-1] == "response.incomplete"

    def test_logprobs_come_if_included(self, speaker: Speaker) -> None:
        speaker.says("Cold", "!")
        included: Any = ["message.output_text.logprobs"]
        answer = respond(speaker, include=included, top_logprobs=2)
        (part,) = answer.output[0].content
        assert [item.token for item in part.logprobs] == ["Cold", "!"]
        assert len(part.logprobs[0].top_logprobs) == 2

    @pytest.mark.parametrize(
        "body",
        [
            {"previous_response_id": "resp_1"},
            {"conversation": "conv_1"},
            {"background": True},
        ],
    )
    def test_what_needs_a_store_is_refused(self, speaker: Speaker, body: dict[str, Any]) -> None:
        speaker.says("x")
        with pytest.raises(openai.BadRequestError, match="responses are not stored"):
            respond(speaker, **body)

    @pytest.mark.parametrize(
        ("body", "sentence"),
        [
            ({"input": []}, "`input` must be"),
            ({"input": ["a"]}, r"`input\[0\]` must be"),
            ({"input": [{"type": "item_reference", "id": "a"}]}, r"`input\[0\].type` must be"),
            ({"input": [{"role": "wizard", "content": "a"}]}, r"`input\[0\].role` must be"),
            ({"input": [{"type": "function_call"}]}, r"`input\[0\].call_id` must be"),
            (
                {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
                "is an image, but this model reads only text",
            ),
            ({"tools": [{"type": "web_search"}]}, "no other tools are run here"),
            ({"text": {"format": {"type": "xml"}}}, "`response_format.type` must be"),
            ({"max_output_tokens": 0}, "must be >= 1"),
        ],
    )
    def test_wrong_bodies_are_refused(
        self, speaker: Speaker, body: dict[str, Any], sentence: str
    ) -> None:
        speaker.says("x")
        with pytest.raises(openai.UnprocessableEntityError, match=sentence):
            respond(speaker, **body)

    def test_error_midway_is_an_event(self, speaker: Speaker) -> None:
        speaker.says("Cold", "!", breaks_after=1)
        *_, last = list(respond(speaker, stream=True))
        assert last.type == "error"
        assert "it broke" in last.message
