"""The client `text-generation` 0.7, which came with text-generation-inference."""

import json
from typing import Any

import pytest
from client_process import ClientError, ClientProcess, NewProcess, python_process
from hub_server import HubServer
from served_model import ServedModel
from written_model import ANSWER, COUNTED

OPENING = """
import asyncio, os
from text_generation import AsyncClient, Client
from text_generation.types import Grammar, GrammarType, Message

WHY = [{"role": "user", "content": "Why?"}]
FORECAST = [{"role": "user", "content": "What is the forecast?"}]
PARAMETERS = {
    "type": "object", "properties": {"city": {"enum": ["Paris"]}}, "required": ["city"],
}
TOOLS = [{
    "type": "function",
    "function": {"name": "get_weather", "description": "", "parameters": PARAMETERS},
}]

def authorization():
    return {"Authorization": f"Bearer {os.environ['HF_TOKEN']}"}

async def gathered(stream):
    return [event async for event in stream]
"""


@pytest.fixture(scope="module")
def client(new_process: NewProcess, server: HubServer) -> ClientProcess:
    return new_process(
        python_process, server.person("carol", "--plan", "pro").read_token, OPENING, "hub-0.36"
    )


def ask(client: ClientProcess, model: ServedModel, program: str) -> Any:
    opening = """
client = Client(url, headers=authorization(), timeout=60)
async_client = AsyncClient(url, headers=authorization(), timeout=60)
"""
    return client.ask(opening + program.strip(), url=model.url)


def test_generate_gives_the_continuation_and_its_details(
    client: ClientProcess, model: ServedModel
) -> None:
    answer = ask(client, model, "return client.generate('One', decoder_input_details=True)")
    assert answer["generated_text"] == COUNTED
    details = answer["details"]
    assert (details["finish_reason"], details["generated_tokens"]) == ("eos_token", 9)
    assert details["seed"] is None
    assert [token["text"] for token in details["prefill"]] == ["One"]
    assert "".join(token["text"] for token in details["tokens"][:-1]) == COUNTED
    assert details["tokens"][-1]["special"] is True


@pytest.mark.parametrize(
    ("parameters", "text", "reason"),
    [
        ("max_new_tokens=2", " two three", "length"),
        ("stop_sequences=[' four']", " two three four", "stop_sequence"),
        ("return_full_text=True, max_new_tokens=1", "One two", "length"),
        ("do_sample=True, top_k=1, temperature=0.5, seed=4", COUNTED, "eos_token"),
        ("best_of=2, do_sample=True, top_k=1", COUNTED, "eos_token"),
        ("watermark=True, frequency_penalty=0.1, repetition_penalty=1.1", COUNTED, "eos_token"),
        ("grammar=Grammar(type=GrammarType.Regex, value='[67]{2}')", "66", "eos_token"),
    ],
)
def test_parameters_do_what_their_names_say(
    client: ClientProcess, model: ServedModel, parameters: str, text: str, reason: str
) -> None:
    answer = ask(client, model, f"return client.generate('One', {parameters})")
    assert (answer["generated_text"], answer["details"]["finish_reason"]) == (text, reason)


@pytest.mark.parametrize(
    "program",
    [
        "return list(client.generate_stream('One', top_n_tokens=2))",
        "return asyncio.run(gathered(async_client.generate_stream('One', top_n_tokens=2)))",
    ],
    ids=["plain", "async"],
)
def test_a_stream_ends_without_an_error(
    client: ClientProcess, model: ServedModel, program: str
) -> None:
    events = ask(client, model, program)
    assert "".join(event["token"]["text"] for event in events[:-1]) == COUNTED
    assert [event["generated_text"] for event in events] == [None] * 8 + [COUNTED]
    assert events[-1]["details"]["finish_reason"] == "eos_token"
    assert all(len(event["top_tokens"]) == 2 for event in events)


def test_chat_gives_an_answer(client: ClientProcess, model: ServedModel) -> None:
    answer = ask(client, model, "return client.chat(WHY, temperature=0.01, max_tokens=20)")
    [choice] = answer["choices"]
    assert choice["message"]["content"] == ANSWER
    assert (choice["finish_reason"], choice["logprobs"]) == ("stop", None)
    assert answer["model"] == model.name
    assert answer["usage"]["completion_tokens"] == 6


@pytest.mark.parametrize(
    "program",
    [
        "return list(client.chat(WHY, temperature=0.01, stream=True))",
        """
async def chat():
    return await gathered(await async_client.chat(WHY, temperature=0.01, stream=True))
return asyncio.run(chat())
""",
    ],
    ids=["plain", "async"],
)
def test_a_chat_stream_ends_without_an_error(
    client: ClientProcess, model: ServedModel, program: str
) -> None:
    chunks = ask(client, model, program)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta["content"] or "" for delta in deltas) == ANSWER
    assert len(chunks) >= 5
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("choice", ["None", "'get_weather'"])
def test_chat_calls_tools(client: ClientProcess, model: ServedModel, choice: str) -> None:
    program = f"return client.chat(FORECAST, tools=TOOLS, tool_choice={choice}, temperature=0.01)"
    [call] = ask(client, model, program)["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    arguments = call["function"]["arguments"]
    assert (json.loads(arguments) if isinstance(arguments, str) else arguments) == {"city": "Paris"}


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("generate('One', max_new_tokens=2048)", "`inputs` tokens + `max_new_tokens` must be"),
        ("generate('x' * 3000)", "must be <= 2048. Given: 3000 `inputs` tokens and 20"),
        ("generate_stream('x' * 3000)", "must be <= 2048. Given: 3000 `inputs` tokens and 20"),
        ("generate('One', stop_sequences=list('abcde'))", "`stop` supports up to 4"),
        ("chat([{'role': 'user', 'content': 'x' * 3000}])", "must have less than 2047 tokens"),
    ],
)
def test_what_is_wrong_raises_the_typed_error(
    client: ClientProcess, model: ServedModel, call: str, sentence: str
) -> None:
    with pytest.raises(ClientError) as caught:
        ask(client, model, f"answer = client.{call}\nreturn list(answer)")
    assert sentence in caught.value.text
    assert "Input validation error: " in caught.value.text
    # `chat` parses no errors: it hands on whatever the text says.
    if not call.startswith("chat"):
        assert caught.value.names[0] == "ValidationError"


def test_an_unknown_model_is_not_found(client: ClientProcess, server: HubServer) -> None:
    nothing = ServedModel(server, "alice/nothing")
    for call in ("generate('One')", "generate_stream('One')"):
        with pytest.raises(ClientError, match="Model alice/nothing does not exist") as caught:
            ask(client, nothing, f"return list(client.{call})")
        assert caught.value.name == "NotFoundError"
