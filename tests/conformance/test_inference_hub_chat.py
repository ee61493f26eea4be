"""`InferenceClient.chat_completion` of three ages: plain, streamed, with tools and formats."""

import json
from typing import Any

import pytest
from client_process import ClientError, ClientProcess, NewProcess, python_process
from hub_server import HubServer
from served_model import ServedModel
from written_model import ANSWER, RESULT

OPENING = """
import os
from huggingface_hub import InferenceClient

def client_of(model, **options):
    return InferenceClient(model=model, token=os.environ["HF_TOKEN"], **options)

WHY = [{"role": "user", "content": "Why?"}]
FORECAST = [{"role": "user", "content": "What is the forecast?"}]
CITY = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
SIDES = {"type": "object", "properties": {"sides": {"type": "integer"}}, "required": ["sides"]}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}
    for name, parameters in (("get_weather", CITY), ("roll_dice", SIDES))
]

def calls_of(message):
    return [[call["id"], call["type"], call["function"]["name"], call["function"]["arguments"]]
            for call in message.tool_calls]
"""
VERSIONS = {"2.4": None, "0.36": "hub-0.36", "0.23": "hub-0.23"}
# 0.23 has no `response_format`, `stream_options` or `base_url`; all else it has too.
NEWER = pytest.mark.parametrize("client", ["2.4", "0.36"], indirect=True)


@pytest.fixture(scope="module", params=VERSIONS)
def client(
    request: pytest.FixtureRequest, new_process: NewProcess, server: HubServer
) -> ClientProcess:
    token = server.person("carol", "--plan", "pro").read_token
    return new_process(python_process, token, OPENING, VERSIONS[request.param])


def ask(client: ClientProcess, model: ServedModel, program: str) -> Any:
    return client.ask(f"client = client_of(url)\n{program.strip()}", url=model.url)


def test_an_answer_has_all_that_the_type_promises(
    client: ClientProcess, model: ServedModel
) -> None:
    program = """
answer = client.chat_completion(WHY, temperature=0.0, max_tokens=20)
choice = answer.choices[0]
return [answer.model, answer.id, answer.created, choice.message.role, choice.message.content,
        choice.finish_reason, choice.index]
"""
    name, id_, created, role, content, reason, index = ask(client, model, program)
    assert name == model.name
    assert id_
    assert created > 1_700_000_000
    assert (role, content, reason, index) == ("assistant", ANSWER, "stop", 0)


def test_tokens_are_counted(client: ClientProcess, model: ServedModel) -> None:
    program = """
usage = client.chat_completion(WHY, temperature=0.0)["usage"]
return [usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]]
"""
    num_prompt, num_new, num_total = ask(client, model, program)
    assert num_new == 6
    assert num_prompt + num_new == num_total
    assert num_prompt > 3


def test_a_stream_ends_without_an_error(client: ClientProcess, model: ServedModel) -> None:
    program = """
chunks = list(client.chat_completion(WHY, temperature=0.0, stream=True))
return {
    "roles": [chunk.choices[0].delta.role for chunk in chunks],
    "pieces": [chunk.choices[0].delta.content or "" for chunk in chunks],
    "reasons": [chunk.choices[0].finish_reason for chunk in chunks],
}
"""
    found = ask(client, model, program)
    assert "".join(found["pieces"]) == ANSWER
    assert sum(map(bool, found["pieces"])) >= 5, "piece by piece"
    assert set(found["roles"]) == {"assistant"}
    assert found["reasons"][-1] == "stop"
    assert set(found["reasons"][:-1]) == {None}


@NEWER
def test_usage_comes_in_a_chunk_of_its_own(client: ClientProcess, model: ServedModel) -> None:
    program = """
options = {"include_usage": True}
chunks = list(client.chat_completion(WHY, temperature=0.0, stream=True, stream_options=options))
return [[len(chunk.choices), chunk.usage and chunk.usage.completion_tokens] for chunk in chunks]
"""
    chunks = ask(client, model, program)
    assert chunks[-1] == [0, 6]
    assert all(chunk == [1, None] for chunk in chunks[:-1])


@pytest.mark.parametrize(
    ("parameters", "content", "reason"),
    [
        ("max_tokens=2", "The sky", "length"),
        ("stop=[' blue']", "The sky is", "stop"),
        ("top_p=0.9, seed=5", ANSWER, "stop"),
        ("frequency_penalty=0.1, presence_penalty=0.1", ANSWER, "stop"),
    ],
)
def test_parameters_do_what_their_names_say(
    client: ClientProcess, model: ServedModel, parameters: str, content: str, reason: str
) -> None:
    program = f"""
choice = client.chat_completion(WHY, temperature=0.01, {parameters}).choices[0]
return [choice.message.content, choice.finish_reason]
"""
    assert ask(client, model, program) == [content, reason]


def test_log_probabilities_are_of_each_token(client: ClientProcess, model: ServedModel) -> None:
    program = """
choice = client.chat_completion(WHY, temperature=0.0, logprobs=True, top_logprobs=3).choices[0]
return [[token["token"], token["logprob"], len(token["top_logprobs"])]
        for token in choice["logprobs"]["content"]]
"""
    found = ask(client, model, program)
    assert "".join(token for token, _, _ in found[:5]) == ANSWER
    assert all(logprob <= 0 for _, logprob, _ in found)
    assert {count for _, _, count in found} == {3}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_model_chooses_whether_to_call(
    client: ClientProcess, model: ServedModel, stream: bool
) -> None:
    if stream:
        program = """
chunks = list(client.chat_completion(messages, tools=TOOLS, temperature=0.0, stream=True))
deltas = [chunk.choices[0].delta for chunk in chunks]
parts = [call for delta in deltas for call in delta.tool_calls or []]
text = "".join(delta.content or "" for delta in deltas)
calls = [[parts[0].id, parts[0].type, parts[0].function.name,
          "".join(part.function.arguments or "" for part in parts)]] if parts else []
return [calls, text, chunks[-1].choices[0].finish_reason]
"""
    else:
        program = """
choice = client.chat_completion(messages, tools=TOOLS, temperature=0.0).choices[0]
calls = calls_of(choice.message) if choice.message.tool_calls else []
return [calls, choice.message.content or "", choice.finish_reason]
"""
    calls, text, reason = ask(client, model, f"messages = FORECAST\n{program}")
    [[id_, kind, name, arguments]] = calls
    assert id_
    assert (kind, name, json.loads(arguments)) == ("function", "get_weather", {"city": "Paris"})
    assert (text, reason) == ("", "tool_calls")
    assert ask(client, model, f"messages = WHY\n{program}") == [[], ANSWER, "stop"]


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ('"required"', "get_weather"),
        ('{"type": "function", "function": {"name": "roll_dice"}}', "roll_dice"),
        ('"roll_dice"', "roll_dice"),
    ],
)
def test_the_caller_chooses_what_is_called(
    client: ClientProcess, model: ServedModel, choice: str, name: str
) -> None:
    program = f"""
answer = client.chat_completion(WHY, tools=TOOLS, tool_choice={choice}, temperature=0.0)
return calls_of(answer.choices[0].message)
"""
    calls = ask(client, model, program)
    assert {called for _, _, called, _ in calls} == {name}
    key = {"get_weather": "city", "roll_dice": "sides"}[name]
    assert all(set(json.loads(arguments)) == {key} for *_, arguments in calls)


def test_a_result_is_answered(client: ClientProcess, model: ServedModel) -> None:
    program = """
answer = client.chat_completion(FORECAST, tools=TOOLS, temperature=0.0)
message = answer.choices[0].message
result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "Rain in Rome."}
answer = client.chat_completion([*FORECAST, message, result], tools=TOOLS, temperature=0.0)
return answer.choices[0].message.content
"""
    assert ask(client, model, program) == RESULT


def test_a_tool_that_is_not_there_is_refused(client: ClientProcess, model: ServedModel) -> None:
    program = "return client.chat_completion(WHY, tools=TOOLS, tool_choice='fly')"
    with pytest.raises(ClientError, match="Tool with name fly not found") as caught:
        ask(client, model, program)
    assert caught.value.status == 422


@NEWER
@pytest.mark.parametrize(
    ("response_format", "content"),
    [
        (
            '{"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": CITY}}',
            {"city": "Paris"},
        ),
        ('{"type": "json", "value": CITY}', {"city": "Paris"}),
        ('{"type": "json_object", "value": SIDES}', {"sides": 6}),
        ('{"type": "json_object"}', {"": ""}),
        ('{"type": "regex", "value": "[67]{2}"}', 66),
    ],
)
def test_a_format_binds_the_answer(
    client: ClientProcess, model: ServedModel, response_format: str, content: Any
) -> None:
    program = f"""
answer = client.chat_completion(WHY, response_format={response_format}, temperature=0.0)
return answer.choices[0].message.content
"""
    assert json.loads(ask(client, model, program)) == content


@NEWER
def test_formats_and_tools_exclude_each_other(client: ClientProcess, model: ServedModel) -> None:
    program = """
return client.chat_completion(WHY, tools=TOOLS, response_format={"type": "json", "value": CITY})
"""
    with pytest.raises(ClientError, match="Grammar and tools are mutually exclusive") as caught:
        ask(client, model, program)
    assert caught.value.status == 422


def test_the_last_message_may_be_the_beginning_of_the_answer(
    client: ClientProcess, model: ServedModel
) -> None:
    program = """
messages = [*WHY, {"role": "assistant", "content": "The sky"}]
return client.chat_completion(messages, temperature=0.0).choices[0].message.content
"""
    assert ask(client, model, program).endswith(" is blue.")


@NEWER
def test_the_model_may_be_named_as_openai_does(client: ClientProcess, model: ServedModel) -> None:
    program = """
client = InferenceClient(base_url=base, api_key=os.environ["HF_TOKEN"])
answer = client.chat.completions.create(model=name, messages=WHY, temperature=0.0)
return [answer.model, answer.choices[0].message.content]
"""
    for name in (model.name, f"{model.name}:fastest", f"{model.name}:hf-inference"):
        found = client.ask(program, base=f"{model.hub.url}/v1", name=name)
        assert found == [model.name, ANSWER]


def test_what_is_wrong_is_said(client: ClientProcess, model: ServedModel) -> None:
    for arguments, sentence in (
        ("WHY, top_p=7.0", "`top_p` must be"),
        ("WHY, max_tokens=-1", "`max_tokens` must be"),
        ("[]", "`messages`"),
        ("[{'role': 'user', 'content': 'x' * 3000}]", "`inputs` must have less than 2047 tokens"),
    ):
        for stream in (False, True):
            with pytest.raises(ClientError) as caught:
                ask(
                    client,
                    model,
                    f"return list(client.chat_completion({arguments}, stream={stream}))",
                )
            assert sentence in caught.value.text, arguments
            assert caught.value.status == 422, arguments
