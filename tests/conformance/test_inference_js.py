"""`@huggingface/inference` 4 in Node, by `endpointUrl`."""

import json
from typing import Any

import pytest
from client_process import ClientError, ClientProcess, NewProcess, node_process
from hub_server import HubServer
from served_model import ServedModel
from written_model import ANSWER, COUNTED

OPENING = """
const token = process.env.HF_TOKEN
const clientOf = (endpointUrl) => new inference.InferenceClient(token, { endpointUrl })
const gathered = async (stream) => {
  const items = []
  for await (const item of stream) items.push(item)
  return items
}
const why = [{ role: 'user', content: 'Why?' }]
const forecast = [{ role: 'user', content: 'What is the forecast?' }]
const place = {
  type: 'object',
  properties: { city: { type: 'string', enum: ['Rome', 'Paris'] } },
  required: ['city'],
}
const getWeather = { name: 'get_weather', description: 'Says it', parameters: place }
const tools = [{ type: 'function', function: getWeather }]
return { inference, token, clientOf, gathered, why, forecast, place, tools }
"""


@pytest.fixture(scope="module")
def client(new_process: NewProcess, server: HubServer) -> ClientProcess:
    return new_process(node_process, server.person("carol", "--plan", "pro").read_token, OPENING)


def ask(client: ClientProcess, model: ServedModel, program: str, base: str = "") -> Any:
    return client.ask(f"const client = clientOf(url)\n{program}", url=f"{model.url}{base}")


@pytest.mark.parametrize("base", ["", "/", "/v1"])
def test_text_is_continued(client: ClientProcess, model: ServedModel, base: str) -> None:
    program = """
    return await client.textGeneration({ inputs: 'One', parameters: { temperature: 0 } })
    """
    assert ask(client, model, program, base) == {"generated_text": COUNTED}


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ("max_new_tokens: 2", " two three"),
        ("stop: [' four']", " two three"),
        ("return_full_text: false, details: true, do_sample: false", COUNTED),
        ("top_k: 1, top_p: 0.9, repetition_penalty: 1.01, seed: 5", COUNTED),
        ("grammar: { type: 'regex', value: '[67]{2}' }", "66"),
    ],
)
def test_parameters_do_what_their_names_say(
    client: ClientProcess, model: ServedModel, parameters: str, text: str
) -> None:
    program = f"""
    const parameters = {{ temperature: 0, {parameters} }}
    return await client.textGeneration({{ inputs: 'One', parameters }})
    """
    assert ask(client, model, program) == {"generated_text": text}


def test_a_stream_is_of_what_the_types_promise(client: ClientProcess, model: ServedModel) -> None:
    program = """
    const parameters = { max_new_tokens: 20, temperature: 0, details: true }
    return await gathered(client.textGenerationStream({ inputs: 'One', parameters }))
    """
    events = ask(client, model, program)
    events = [event for event in events if event.get("token") is not None]
    assert [event["index"] for event in events] == list(range(1, 10))
    assert "".join(event["token"]["text"] for event in events[:-1]) == COUNTED
    assert [event["token"]["special"] for event in events] == [False] * 8 + [True]
    assert all(event["token"]["logprob"] <= 0 for event in events)
    assert [event["generated_text"] for event in events] == [None] * 8 + [COUNTED]
    assert events[-1]["details"]["finish_reason"] == "eos_token"


@pytest.mark.parametrize("base", ["", "/v1"])
def test_chat_gives_an_answer(client: ClientProcess, model: ServedModel, base: str) -> None:
    program = """
    const chat = { messages: why, temperature: 0, max_tokens: 20 }
    const chunks = await gathered(client.chatCompletionStream(chat))
    return [await client.chatCompletion(chat), chunks]
    """
    answer, chunks = ask(client, model, program, base)
    assert answer["model"] == model.name, "not the address that the body calls the model"
    assert answer["choices"][0]["message"]["content"] == ANSWER
    assert answer["usage"]["completion_tokens"] == 6
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == ANSWER
    assert len(chunks) >= 5


def test_chat_by_the_root_names_its_model(client: ClientProcess, model: ServedModel) -> None:
    program = """
    const chat = { model: name, messages: why, temperature: 0 }
    return await clientOf(url).chatCompletion(chat)
    """
    answer = client.ask(program, url=f"{model.hub.url}/v1", name=model.name)
    assert answer["choices"][0]["message"]["content"] == ANSWER


def test_chat_calls_tools(client: ClientProcess, model: ServedModel) -> None:
    program = """
    const chat = { messages: forecast, tools, temperature: 0 }
    const named = { ...chat, tool_choice: { type: 'function', function: { name: 'get_weather' } } }
    return [
      await client.chatCompletion(chat),
      await client.chatCompletion({ ...chat, messages: why, tool_choice: 'required' }),
      await gathered(client.chatCompletionStream(named)),
    ]
    """
    chosen, required, chunks = ask(client, model, program)
    for answer in (chosen, required):
        assert answer["choices"][0]["finish_reason"] == "tool_calls"
        for call in answer["choices"][0]["message"]["tool_calls"]:
            assert call["function"]["name"] == "get_weather"
            assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}
    parts = [
        part for chunk in chunks for part in chunk["choices"][0]["delta"].get("tool_calls") or []
    ]
    assert next(part["function"].get("name") for part in parts) == "get_weather"
    text = "".join(part["function"].get("arguments") or "" for part in parts)
    assert json.loads(text) == {"city": "Paris"}


def test_a_format_binds_the_answer(client: ClientProcess, model: ServedModel) -> None:
    program = """
    const json_schema = { name: 'place', strict: true, schema: place }
    const response_format = { type: 'json_schema', json_schema }
    return await client.chatCompletion({ messages: why, response_format, temperature: 0 })
    """
    answer = ask(client, model, program)
    assert json.loads(answer["choices"][0]["message"]["content"])["city"] in ("Rome", "Paris")


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            "client.textGeneration({ inputs: 'One', parameters: { max_new_tokens: -1 } })",
            "`max_tokens` must be",
        ),
        ("client.textGeneration({ inputs: '' })", "cannot be empty"),
        ("client.textGeneration({ inputs: 'x'.repeat(3000) })", "must have less than 2047 tokens"),
        (
            "gathered(client.textGenerationStream({ inputs: 'x'.repeat(3000) }))",
            "must have less than 2047 tokens",
        ),
        ("client.chatCompletion({ messages: [] })", "`messages`"),
        ("gathered(client.chatCompletionStream({ messages: why, top_p: 7 }))", "`top_p` must be"),
    ],
)
def test_what_is_wrong_is_said(
    client: ClientProcess, model: ServedModel, call: str, sentence: str
) -> None:
    with pytest.raises(ClientError) as caught:
        ask(client, model, f"return await {call}")
    assert caught.value.name == "InferenceClientProviderApiError"
    assert sentence in caught.value.text
    assert caught.value.status == 422


def test_an_unknown_model_is_not_found(client: ClientProcess, server: HubServer) -> None:
    nothing = ServedModel(server, "alice/nothing")
    for call in (
        "client.textGeneration({ inputs: 'One' })",
        "gathered(client.textGenerationStream({ inputs: 'One' }))",
        "client.chatCompletion({ messages: why })",
    ):
        with pytest.raises(ClientError, match="Model alice/nothing does not exist") as caught:
            ask(client, nothing, f"return await {call}")
        assert caught.value.status == 404
