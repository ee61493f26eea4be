"""Chat over HTTP: what each client's `User-Agent` changes, and the form of errors.

The model says what each test wrote down; everything else is the hub.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from factories import Hub
from scripted_models import ScriptedModel

from gatehouse.engines.base import ChatTraits, ToolMarkup
from gatehouse.inference.chat import ChatCompletions

PATH = "/models/olga/scripted/v1/chat/completions"
ROOT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "f"}}
# All that the client `text-generation` 0.7 sends.
TEXT_GENERATION: dict[str, Any] = {
    "model": "tgi",
    "messages": [{"role": "user", "content": "Hello", "name": None, "tool_calls": None}],
    "repetition_penalty": None,
    "frequency_penalty": None,
    "logit_bias": None,
    "logprobs": None,
    "top_logprobs": None,
    "max_tokens": None,
    "n": None,
    "presence_penalty": None,
    "stop": None,
    "stream": True,
    "seed": None,
    "temperature": None,
    "top_p": None,
    "tools": None,
    "tool_choice": None,
    "tool_prompt": None,
}


@pytest.fixture
def house_of_one(hub: Hub) -> Iterator[Hub]:
    """A hub with one model, which says what `say` tells it to."""
    olga = hub.make_user("olga")
    files = {"model.safetensors": b"weights", "config.json": b"{}"}
    hub.make_repo(olga, "scripted", files=files)
    hub.client.headers.update(olga.read)
    say(hub, "Hell", "o")
    yield hub
    hub.client.headers.pop("Authorization")
    hub.app.state.services = hub.services


def say(hub: Hub, *pieces: str, **how: Any) -> ScriptedModel:
    model = ScriptedModel(pieces, **how)
    chat = ChatCompletions(model.generation)
    hub.app.state.services = replace(hub.services, chat=chat)
    return model


def ask(hub: Hub, body: dict[str, Any], path: str = PATH, agent: str = "curl/8") -> Any:
    body = {"messages": MESSAGES, "model": "olga/scripted"} | body
    return hub.client.post(path, json=body, headers={"user-agent": agent})


def chunks(text: str) -> list[dict[str, Any]]:
    lines = [line for line in text.split("\n\n") if line and line != "data: [DONE]"]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@pytest.mark.parametrize(
    ("agent", "has_done"),
    [
        ("unknown/None; hf_hub/0.22.2; python/3.11", False),
        ("unknown/None; hf_hub/0.23.5; python/3.11", False),
        ("unknown/None; hf_hub/0.24.7; python/3.11", True),
        ("unknown/None; hf_hub/2.4.0; python/3.11", True),
        ("unknown/None; hf_hub/0.30.22; python/3.11", True),
        ("OpenAI/Python 3.54.0", True),
        ("@huggingface/inference/4.13.30", True),
        ("python-requests/2.32", True),
        ("curl/8", True),
    ],
)
def test_end_of_a_stream_is_told_to_whom_it_helps(
    house_of_one: Hub, agent: str, has_done: bool
) -> None:
    answer = ask(house_of_one, {"stream": True}, agent=agent)
    assert answer.text.endswith("data: [DONE]\n\n") is has_done
    assert answer.text.count("[DONE]") == has_done


@pytest.mark.parametrize("agent", ["python-requests/2.32.0", "Python/3.11 aiohttp/3.14.5"])
def test_text_generation_client_is_known_by_its_fields(house_of_one: Hub, agent: str) -> None:
    answer = ask(house_of_one, TEXT_GENERATION, agent=agent)
    assert "[DONE]" not in answer.text
    for chunk in chunks(answer.text):
        assert chunk["choices"][0]["delta"]["tool_calls"] is None
    for name in ("repetition_penalty", "tool_choice"):
        body = {key: value for key, value in TEXT_GENERATION.items() if key != name}
        other = ask(house_of_one, body, agent=agent)
        assert "[DONE]" in other.text
        assert "tool_calls" not in other.text
    at_the_root = ask(house_of_one, TEXT_GENERATION | {"model": "olga/scripted"}, ROOT, agent)
    assert "[DONE]" in at_the_root.text


def test_role_stands_in_every_chunk_but_those_of_openai(house_of_one: Hub) -> None:
    def roles(agent: str) -> list[str | None]:
        answer = ask(house_of_one, {"stream": True}, agent=agent)
        return [chunk["choices"][0]["delta"].get("role") for chunk in chunks(answer.text)]

    assert roles("curl/8") == ["assistant"] * 3
    assert roles("AsyncOpenAI/Python 3.54.0") == ["assistant", None, None]


def test_refusals_below_a_model_have_tgis_form(house_of_one: Hub) -> None:
    answer = ask(house_of_one, {"tools": [TOOL], "tool_choice": "g"})
    assert answer.status_code == 422
    assert answer.json() == {
        "error": "Tool error: Tool with name g not found",
        "error_type": "tool_error",
    }
    both = {"tools": [TOOL], "response_format": {"type": "json_object"}}
    assert ask(house_of_one, both).json() == {
        "error": "Tool error: Grammar and tools are mutually exclusive",
        "error_type": "tool_error",
    }
    wrong = ask(house_of_one, {"temperature": 7})
    assert wrong.status_code == 422
    assert wrong.json()["error_type"] == "validation"


@pytest.mark.parametrize(("path", "agent"), [(ROOT, "curl/8"), (PATH, "OpenAI/Python 3.54.0")])
def test_refusals_of_openais_surface_are_objects(house_of_one: Hub, path: str, agent: str) -> None:
    answer = ask(house_of_one, {"temperature": 7, "stream": True}, path, agent)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "param", "code"}
    too_many = ask(house_of_one, {"n": 3}, path, agent)
    assert too_many.status_code == 400
    both = {"tools": [TOOL], "response_format": {"type": "json_object"}}
    assert ask(house_of_one, both, path, agent).status_code == 200


def test_error_midway_is_the_last_event(house_of_one: Hub) -> None:
    say(house_of_one, "Hell", "o", breaks_after=1)
    answer = ask(house_of_one, {"stream": True})
    assert answer.status_code == 200
    first, last = chunks(answer.text)
    assert first["choices"][0]["delta"]["content"] == "Hell"
    assert last["error"]["message"] == "Request failed during generation: it broke"
    assert last["error"]["http_status_code"] == 424
    assert {"type", "code"} <= set(last["error"])


def test_error_before_the_first_event_has_its_own_status(house_of_one: Hub) -> None:
    say(house_of_one, "Hell", "o", breaks_after=0)
    answer = ask(house_of_one, {"stream": True})
    assert answer.status_code == 424
    assert answer.json()["error_type"] == "generation"


def test_old_client_sends_chat_to_the_model_itself(house_of_one: Hub) -> None:
    answer = ask(house_of_one, {"model": "tgi"}, "/models/olga/scripted")
    assert answer.json()["choices"][0]["message"]["content"] == "Hello"
    assert answer.json()["model"] == "olga/scripted"


def test_calls_are_a_list_in_answers_and_in_chunks(house_of_one: Hub) -> None:
    text = '<tool_call>{"name": "f", "arguments": {"a": [1]}}</tool_call>'
    say(house_of_one, *text, traits=ChatTraits(ToolMarkup.HERMES))
    message = ask(house_of_one, {"tools": [TOOL]}).json()["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"][0]["function"]["arguments"] == '{"a": [1]}'
    streamed = chunks(ask(house_of_one, {"tools": [TOOL], "stream": True}).text)
    deltas = [chunk["choices"][0]["delta"] for chunk in streamed]
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert "".join(call["function"]["arguments"] for call in calls) == '{"a": [1]}'
    assert streamed[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_events_of_responses_have_names_and_no_end_mark(house_of_one: Hub) -> None:
    body = {"input": "Hello", "stream": True}
    answer = ask(house_of_one, body, "/models/olga/scripted/v1/responses")
    assert answer.headers["content-type"] == "text/event-stream"
    events = answer.text.removesuffix("\n\n").split("\n\n")
    for number, event in enumerate(events):
        name, data = event.split("\n")
        found = json.loads(data.removeprefix("data: "))
        assert name == f"event: {found['type']}"
        assert found["sequence_number"] == number
    assert "[DONE]" not in answer.text


def test_responses_need_the_whole_conversation(house_of_one: Hub) -> None:
    body = {"input": "Hello", "previous_response_id": "resp_1"}
    for path in ("/v1/responses", "/models/olga/scripted/v1/responses"):
        assert ask(house_of_one, body, path).status_code == 400
