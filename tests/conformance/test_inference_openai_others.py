"""`openai` 3 beside chat: completions, responses, models, and errors that they share."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from hub_server import HubServer
from served_model import ServedModel
from written_model import ANSWER, COUNTED, MIDDLE

_TIMEOUT = 60


@pytest.fixture(scope="module", params=["root", "model"])
def client(
    request: pytest.FixtureRequest, server: HubServer, model: ServedModel
) -> Iterator[openai.OpenAI]:
    """With either of the two bases."""
    base = server.url if request.param == "root" else model.url
    token = server.person("carol", "--plan", "pro").read_token
    with openai.OpenAI(
        base_url=f"{base}/v1", api_key=token, max_retries=0, timeout=_TIMEOUT
    ) as client:
        yield client


def complete(client: openai.OpenAI, model: ServedModel, prompt: Any = "One", **fields: Any) -> Any:
    given = {"model": model.name, "prompt": prompt, "temperature": 0} | fields
    return client.completions.create(**given)


def respond(client: openai.OpenAI, model: ServedModel, asked: Any = "Why?", **fields: Any) -> Any:
    given = {"model": model.name, "input": asked, "temperature": 0} | fields
    return client.responses.create(**given)


def test_a_prompt_is_completed(client: openai.OpenAI, model: ServedModel) -> None:
    answer = complete(client, model)
    [choice] = answer.choices
    assert (answer.object, answer.model) == ("text_completion", model.name)
    assert (choice.text, choice.finish_reason, choice.logprobs) == (COUNTED, "stop", None)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (1, 9)


def test_a_completion_is_streamed(client: openai.OpenAI, model: ServedModel) -> None:
    options = {"include_usage": True}
    *chunks, last = complete(client, model, stream=True, stream_options=options)
    assert [chunk.choices[0].text for chunk in chunks if chunk.choices[0].text] == [
        f" {word}" for word in COUNTED.split()
    ]
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]
    assert (last.choices, last.usage.completion_tokens) == ([], 9)


@pytest.mark.parametrize(
    ("fields", "text", "reason"),
    [
        ({"max_tokens": 2}, " two three", "length"),
        ({"stop": " four"}, " two three", "stop"),
        ({"echo": True, "max_tokens": 1}, "One two", "length"),
        ({"suffix": "\n", "prompt": "def add(a, b):"}, MIDDLE, "stop"),
        ({"best_of": 1, "seed": 3, "temperature": 0.01, "top_p": 1}, COUNTED, "stop"),
        ({"extra_body": {"details": True, "return_full_text": False}}, COUNTED, "stop"),
    ],
    ids=["length", "stop", "echo", "suffix", "sampled", "extra"],
)
def test_fields_do_what_their_names_say(
    client: openai.OpenAI, model: ServedModel, fields: Any, text: str, reason: str
) -> None:
    [choice] = complete(client, model, **fields).choices
    assert (choice.text, choice.finish_reason) == (text, reason)


def test_prompts_are_completed_in_order(client: openai.OpenAI, model: ServedModel) -> None:
    ids = tokens_of(client, model, "One")
    for prompt, num_answers in ((["One", "x"], 1), (["One", "x"], 2), ([ids, ids], 1), (ids, 2)):
        answer = complete(client, model, prompt, n=num_answers)
        indices = list(range(len(answer.choices)))
        assert [choice.index for choice in answer.choices] == indices
        texts = [choice.text for choice in answer.choices]
        if prompt == ["One", "x"]:
            assert texts == [COUNTED] * num_answers + [""] * num_answers
        else:
            assert texts == [COUNTED, COUNTED]


def test_a_fifth_prompt_is_too_many(client: openai.OpenAI, model: ServedModel) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match="maximum allowed batch size of 4"):
        complete(client, model, ["One"] * 5)


def test_log_probabilities_cover_the_prompt_that_is_echoed(
    client: openai.OpenAI, model: ServedModel
) -> None:
    [choice] = complete(client, model, "One two", echo=True, logprobs=2, max_tokens=1).choices
    found = choice.logprobs
    assert found.tokens == ["One", " two", " three"]
    assert found.text_offset == [0, 3, 7]
    assert found.token_logprobs[0] is None
    assert found.top_logprobs[0] is None
    assert -0.1 < found.token_logprobs[1] <= 0
    assert -0.1 < found.token_logprobs[2] <= 0
    assert found.top_logprobs[2][" three"] == found.token_logprobs[2]
    assert choice.text == "One two three"


def test_a_prompt_is_scored_without_writing(client: openai.OpenAI, model: ServedModel) -> None:
    ids = tokens_of(client, model, "One two three")
    answer = complete(client, model, ids, echo=True, logprobs=1, max_tokens=0)
    found = answer.choices[0].logprobs
    assert found.tokens == ["One", " two", " three"]
    assert sum(found.token_logprobs[1:]) > -0.1
    assert answer.usage.completion_tokens == 0
    unlikely = complete(client, model, [*ids[:2], ids[0]], echo=True, logprobs=1, max_tokens=0)
    assert unlikely.choices[0].logprobs.token_logprobs[2] < -5


def test_a_model_is_listed_and_found(client: openai.OpenAI, model: ServedModel) -> None:
    listed = {found.id: found for found in client.models.list()}
    assert listed[model.name].owned_by == "alice"
    assert listed[model.name].created > 1_700_000_000
    # The client writes the slash as `%2F`.
    assert client.models.retrieve(model.name) == listed[model.name]


def test_a_response_is_whole(client: openai.OpenAI, model: ServedModel) -> None:
    answer = respond(client, model, instructions="Be brief.", max_output_tokens=50, store=False)
    assert (answer.object, answer.status, answer.error) == ("response", "completed", None)
    assert answer.id.startswith("resp_")
    assert answer.model == model.name
    assert answer.output_text == ANSWER
    [message] = answer.output
    assert (message.type, message.role, message.status) == ("message", "assistant", "completed")
    assert answer.usage.output_tokens == 6
    assert answer.usage.total_tokens == answer.usage.input_tokens + 6


def test_a_response_takes_items(client: openai.OpenAI, model: ServedModel) -> None:
    items = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "Why?"}]},
    ]
    assert respond(client, model, items).output_text == ANSWER


def test_a_response_is_cut_where_it_has_to_be(client: openai.OpenAI, model: ServedModel) -> None:
    answer = respond(client, model, max_output_tokens=2)
    assert (answer.output_text, answer.status) == ("The sky", "incomplete")
    assert answer.incomplete_details.reason == "max_output_tokens"


def test_a_response_is_streamed_as_numbered_events(
    client: openai.OpenAI, model: ServedModel
) -> None:
    events = list(respond(client, model, stream=True))
    kinds = [event.type for event in events]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert len(kinds) - 8 >= 5
    assert "".join(event.delta for event in events[4:-4]) == ANSWER
    assert events[-1].response.output_text == ANSWER
    assert events[-1].response.usage.output_tokens == 6


def test_a_response_may_be_a_call(client: openai.OpenAI, model: ServedModel) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tools = [{"type": "function", "name": "get_weather", "parameters": parameters}]
    answer = respond(client, model, "What is the forecast?", tools=tools)
    [call] = answer.output
    assert (call.type, call.name, call.arguments) == (
        "function_call",
        "get_weather",
        '{"city": "Paris"}',
    )
    assert call.call_id


def test_an_earlier_response_is_not_remembered(client: openai.OpenAI, model: ServedModel) -> None:
    with pytest.raises(openai.BadRequestError, match="previous_response_id"):
        respond(client, model, previous_response_id="resp_1")


def test_the_environment_alone_leads_here(
    server: HubServer, model: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", server.person("carol", "--plan", "pro").read_token)
    with openai.OpenAI() as client:
        assert complete(client, model).choices[0].text == COUNTED


@pytest.mark.anyio
async def test_the_asynchronous_client_is_served_alike(
    server: HubServer, model: ServedModel
) -> None:
    token = server.person("carol", "--plan", "pro").read_token
    async with openai.AsyncOpenAI(base_url=f"{model.url}/v1", api_key=token) as client:
        stream = await client.completions.create(
            model="whatever", prompt="One", temperature=0, stream=True
        )
        pieces = [chunk.choices[0].text async for chunk in stream]
        assert "".join(pieces) == COUNTED
        with pytest.raises(openai.UnprocessableEntityError) as caught:
            await client.completions.create(model="whatever", prompt="")
        assert isinstance(caught.value.body, dict)


def test_an_unknown_model_is_not_found(server: HubServer) -> None:
    token = server.person("carol", "--plan", "pro").read_token
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=token, max_retries=0) as client:
        for call in (client.chat.completions.create, client.completions.create):
            about: Any = {"prompt": "a"} if call == client.completions.create else {"messages": []}
            with pytest.raises(openai.NotFoundError) as caught:
                call(model="alice/nothing", **about)
            assert caught.value.code == "model_not_found"
            assert "Model alice/nothing does not exist" in str(caught.value)
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("alice/nothing")


def tokens_of(client: openai.OpenAI, model: ServedModel, text: str) -> list[int]:
    """What `POST /tokenize` says, which is not OpenAI's but asked by its users."""
    answer = client.post(f"{model.url}/tokenize", body={"inputs": text}, cast_to=object)
    assert isinstance(answer, list)
    return [token["id"] for token in answer]
