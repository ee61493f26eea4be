"""`openai` 3: chat, streams, tools, formats, log-probabilities; at the root and below a model."""

import json
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from hub_server import HubServer
from openai.types.chat import ChatCompletionChunk
from pydantic import BaseModel
from served_model import ServedModel
from written_model import ANSWER, RESULT

WHY: list[Any] = [{"role": "user", "content": "Why?"}]
FORECAST: list[Any] = [{"role": "user", "content": "What is the forecast?"}]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
SIDES = {
    "type": "object",
    "properties": {"sides": {"type": "integer"}, "loaded": {"type": "boolean"}},
    "required": ["sides", "loaded"],
    "additionalProperties": False,
}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}
    for name, parameters in (("get_weather", CITY), ("roll_dice", SIDES))
]


class Weather(BaseModel):
    city: Literal["Rome", "Paris"]
    degrees: int
    is_sure: Literal[True]
    notes: list[str]


@pytest.fixture(scope="module", params=["root", "model"])
def client(
    request: pytest.FixtureRequest, server: HubServer, model: ServedModel
) -> Iterator[openai.OpenAI]:
    """With either of the two bases."""
    base = server.url if request.param == "root" else model.url
    token = server.person("carol", "--plan", "pro").read_token
    with openai.OpenAI(base_url=f"{base}/v1", api_key=token, max_retries=0, timeout=60) as client:
        yield client


def create(client: openai.OpenAI, model: ServedModel, messages: Any = WHY, **fields: Any) -> Any:
    given = {"model": model.name, "messages": messages, "temperature": 0} | fields
    return client.chat.completions.create(**given)


def calls_of(chunks: list[ChatCompletionChunk]) -> list[dict[str, Any]]:
    """The calls that a stream spells out, and in how many pieces their arguments came."""
    calls: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for part in chunk.choices[0].delta.tool_calls or [] if chunk.choices else []:
            call = calls.setdefault(part.index, {"arguments": "", "num_pieces": 0})
            if part.id:
                call["id"] = part.id
            assert part.function is not None
            if part.function.name:
                assert "name" not in call, "the name comes once"
                call["name"] = part.function.name
            if part.function.arguments:
                call["arguments"] += part.function.arguments
                call["num_pieces"] += 1
    return list(calls.values())


def test_an_answer_is_whole(client: openai.OpenAI, model: ServedModel) -> None:
    answer = create(client, model)
    [choice] = answer.choices
    assert (answer.object, answer.model) == ("chat.completion", model.name)
    assert answer.id.startswith("chatcmpl-")
    assert (choice.message.role, choice.message.content) == ("assistant", ANSWER)
    assert (choice.finish_reason, choice.logprobs) == ("stop", None)
    assert answer.usage.completion_tokens == 6
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 6
    assert answer._request_id


def test_a_stream_is_of_chunks_with_one_id(client: openai.OpenAI, model: ServedModel) -> None:
    chunks = list(create(client, model, stream=True))
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk.model for chunk in chunks} == {model.name}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
    assert len(chunks) >= 5
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


def test_usage_ends_a_stream_that_asks_for_it(client: openai.OpenAI, model: ServedModel) -> None:
    chunks = list(create(client, model, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 6
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-2].choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("fields", "content", "reason"),
    [
        ({"max_tokens": 2}, "The sky", "length"),
        ({"max_tokens": 9, "max_completion_tokens": 2}, "The sky", "length"),
        ({"stop": " blue"}, "The sky is", "stop"),
        ({"stop": ["!", " is"]}, "The sky", "stop"),
        ({"temperature": 0.01, "top_p": 1, "seed": 7}, ANSWER, "stop"),
        ({"user": "u", "store": False, "metadata": {"a": "b"}}, ANSWER, "stop"),
        ({"service_tier": "auto", "reasoning_effort": "low"}, ANSWER, "stop"),
        ({"extra_body": {"top_k": 1, "repetition_penalty": 1.01}}, ANSWER, "stop"),
        ({"response_format": {"type": "text"}}, ANSWER, "stop"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_fields_do_what_their_names_say(
    client: openai.OpenAI, model: ServedModel, fields: dict[str, Any], content: str, reason: str
) -> None:
    [choice] = create(client, model, **fields).choices
    assert (choice.message.content, choice.finish_reason) == (content, reason)


def test_the_other_roles_are_understood(client: openai.OpenAI, model: ServedModel) -> None:
    parts = [{"type": "text", "text": "Why"}, {"type": "text", "text": "?"}]
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": parts, "name": "bob"},
    ]
    assert create(client, model, messages).choices[0].message.content == ANSWER


def test_several_answers_may_be_asked_for(client: openai.OpenAI, model: ServedModel) -> None:
    answer = create(client, model, n=2)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert {choice.message.content for choice in answer.choices} == {ANSWER}
    assert answer.usage.completion_tokens == 12


def test_a_bias_moves_the_choice(client: openai.OpenAI, model: ServedModel) -> None:
    first = create(client, model, max_tokens=1)
    # The first token after the special ones.
    other = create(client, model, logit_bias={"8": 100}, max_tokens=1)
    assert first.choices[0].message.content == "The"
    assert other.choices[0].message.content == "<tool_call>"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_log_probabilities_come_with_their_tokens(
    client: openai.OpenAI, model: ServedModel, stream: bool
) -> None:
    answer = create(client, model, logprobs=True, top_logprobs=2, stream=stream)
    choices = [chunk.choices[0] for chunk in answer] if stream else [answer.choices[0]]
    tokens = [token for choice in choices if choice.logprobs for token in choice.logprobs.content]
    texts = [token.token for token in tokens]
    assert "".join(texts[:5]) == ANSWER
    for token in tokens:
        assert token.logprob <= 0
        assert bytes(token.bytes or b"").decode() in token.token
        best, second = token.top_logprobs
        assert (best.token, best.logprob) == (token.token, token.logprob)
        assert second.logprob <= best.logprob


def test_the_model_may_call_a_tool(client: openai.OpenAI, model: ServedModel) -> None:
    [choice] = create(client, model, FORECAST, tools=TOOLS, tool_choice="auto").choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    [call] = choice.message.tool_calls
    assert call.id
    assert (call.type, call.function.name) == ("function", "get_weather")
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "Rain in Rome."}
    told = create(client, model, [*FORECAST, choice.message, result], tools=TOOLS)
    assert told.choices[0].message.content == RESULT


def test_the_model_may_answer_instead(client: openai.OpenAI, model: ServedModel) -> None:
    for tool_choice in ("auto", "none"):
        [choice] = create(client, model, tools=TOOLS, tool_choice=tool_choice).choices
        assert choice.message.tool_calls is None
        assert (choice.message.content, choice.finish_reason) == (ANSWER, "stop")


@pytest.mark.parametrize(
    ("choice", "name", "keys"),
    [
        ("required", "get_weather", {"city"}),
        ({"type": "function", "function": {"name": "get_weather"}}, "get_weather", {"city"}),
        ({"type": "function", "function": {"name": "roll_dice"}}, "roll_dice", {"sides", "loaded"}),
    ],
    ids=["required", "named", "other"],
)
def test_a_call_that_must_be_made_comes_in_pieces(
    client: openai.OpenAI, model: ServedModel, choice: Any, name: str, keys: set[str]
) -> None:
    fields = {"tools": TOOLS, "tool_choice": choice, "parallel_tool_calls": False}
    chunks = list(create(client, model, FORECAST, stream=True, **fields))
    [call] = calls_of(chunks)
    assert call["name"] == name
    assert call["id"]
    assert call["num_pieces"] > 1
    assert set(json.loads(call["arguments"])) == keys
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert not any(chunk.choices[0].delta.content for chunk in chunks)
    whole = create(client, model, FORECAST, **fields).choices[0].message.tool_calls[0]
    assert (whole.function.name, whole.function.arguments) == (name, call["arguments"])


def test_a_streamed_call_of_the_models_own_choice(
    client: openai.OpenAI, model: ServedModel
) -> None:
    chunks = list(create(client, model, FORECAST, stream=True, tools=TOOLS))
    [call] = calls_of(chunks)
    assert (call["name"], json.loads(call["arguments"])) == ("get_weather", {"city": "Paris"})
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    chunks = list(create(client, model, WHY, stream=True, tools=TOOLS))
    assert calls_of(chunks) == []
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER


def test_a_pydantic_model_is_what_is_parsed(client: openai.OpenAI, model: ServedModel) -> None:
    answer = client.chat.completions.parse(
        model=model.name, messages=WHY, temperature=0, response_format=Weather
    )
    parsed = answer.choices[0].message.parsed
    assert isinstance(parsed, Weather)
    assert parsed.is_sure is True
    with client.chat.completions.stream(
        model=model.name, messages=WHY, temperature=0, response_format=Weather
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == parsed


def test_a_pydantic_model_may_be_a_tool(client: openai.OpenAI, model: ServedModel) -> None:
    answer = client.chat.completions.parse(
        model=model.name,
        messages=WHY,
        temperature=0,
        tools=[openai.pydantic_function_tool(Weather)],
        tool_choice="required",
    )
    for call in answer.choices[0].message.tool_calls or []:
        assert isinstance(call.function.parsed_arguments, Weather)


@pytest.mark.parametrize(
    ("response_format", "keys"),
    [
        ({"type": "json_object"}, {""}),
        ({"type": "json_schema", "json_schema": {"name": "c", "schema": CITY}}, {"city"}),
        (
            {"type": "json_schema", "json_schema": {"name": "s", "schema": SIDES}},
            {"sides", "loaded"},
        ),
    ],
    ids=["object", "schema", "two"],
)
def test_a_format_binds_the_answer(
    client: openai.OpenAI, model: ServedModel, response_format: Any, keys: set[str]
) -> None:
    answer = create(client, model, response_format=response_format)
    assert set(json.loads(answer.choices[0].message.content)) == keys


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": "a"}]}, "role"),
        ({"temperature": 9}, "temperature"),
        ({"top_logprobs": 99, "logprobs": True}, "top_logprobs"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"messages": [{"role": "user", "content": "x" * 3000}]}, "must have less than"),
        ({"tools": TOOLS, "tool_choice": "fly"}, "Tool with name fly not found"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"logit_bias": {"1": "much"}}, "logit_bias"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value,
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_what_is_wrong_raises_the_typed_error(
    client: openai.OpenAI, model: ServedModel, fields: Any, sentence: str, stream: bool
) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        list(create(client, model, stream=stream, **fields))
    assert caught.value.status_code == 422
    assert isinstance(caught.value.body, dict)
    assert sentence in caught.value.body["message"]
    assert caught.value.body["type"] == "invalid_request_error"
    assert caught.value.request_id


def test_more_answers_than_there_can_be_are_a_bad_request(
    client: openai.OpenAI, model: ServedModel
) -> None:
    with pytest.raises(openai.BadRequestError, match="`n` must be"):
        create(client, model, n=99)
