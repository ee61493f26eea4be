"""`InferenceClient.text_generation` of three ages: by address; the eldest by environment too."""

from typing import Any

import pytest
from client_process import ClientError, ClientProcess, NewProcess, python_process
from hub_server import HubServer
from served_model import ServedModel
from written_model import CONTEXT_LENGTH, COUNTED

OPENING = """
import inspect, os
import huggingface_hub
from huggingface_hub import InferenceClient

parameters = inspect.signature(InferenceClient.text_generation).parameters
STOP = "stop" if "stop" in parameters else "stop_sequences"

def client_of(model, **options):
    # From 0.28 on some calls ask which provider it is, even with an address.
    if not huggingface_hub.__version__.startswith("0.23."):
        options["provider"] = "hf-inference"
    return InferenceClient(model=model, token=os.environ["HF_TOKEN"], **options)
"""
VERSIONS = {"2.4": None, "0.36": "hub-0.36", "0.23": "hub-0.23"}


@pytest.fixture(scope="module", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def client(version: str, new_process: NewProcess, server: HubServer) -> ClientProcess:
    token = server.person("carol", "--plan", "pro").read_token
    return new_process(python_process, token, OPENING, VERSIONS[version])


@pytest.fixture(scope="module")
def eldest_by_environment(new_process: NewProcess, server: HubServer) -> ClientProcess:
    """As people wrote it in 2024; only the environment knows of this hub."""
    token = server.person("carol", "--plan", "pro").read_token
    opening = "import os\nfrom huggingface_hub import InferenceClient"
    return new_process(python_process, token, opening, "hub-0.23", HF_INFERENCE_ENDPOINT=server.url)


def test_the_version_is_the_one_that_is_meant(client: ClientProcess, version: str) -> None:
    found = client.ask("import huggingface_hub\nreturn huggingface_hub.__version__")
    assert found.startswith(f"{version}.")


def test_plain_text_is_the_continuation(client: ClientProcess, model: ServedModel) -> None:
    assert ask(client, model, "return client.text_generation('One')") == COUNTED


def test_the_prompt_comes_back_when_asked_for(client: ClientProcess, model: ServedModel) -> None:
    program = "return client.text_generation('One', return_full_text=True, max_new_tokens=2)"
    assert ask(client, model, program) == "One two three"


def test_details_name_every_token(client: ClientProcess, model: ServedModel) -> None:
    program = """
output = client.text_generation("One", details=True, decoder_input_details=True, top_n_tokens=2)
details = output.details
return {
    "text": output.generated_text,
    "reason": details.finish_reason,
    "count": details.generated_tokens,
    "seed": details.seed,
    "prefill": [[token.text, token.logprob] for token in details.prefill],
    "tokens": [[token.text, token.special, token.logprob <= 0] for token in details.tokens],
    "top": [len(tokens) for tokens in details.top_tokens],
    "best": details.top_tokens[0][0]["text"],
    "id": details.tokens[0].id,
    "best_id": details.top_tokens[0][0]["id"],
}
"""
    found = ask(client, model, program)
    assert found["text"] == COUNTED
    assert found["reason"] == "eos_token"
    assert found["count"] == len(found["tokens"]) == 9
    assert found["seed"] is None, "nothing was drawn"
    assert found["prefill"] == [["One", None]]
    assert [text for text, _, _ in found["tokens"][:-1]] == [f" {word}" for word in COUNTED.split()]
    assert [special for _, special, _ in found["tokens"]] == [False] * 8 + [True]
    assert all(is_logprob for _, _, is_logprob in found["tokens"])
    assert found["top"] == [2] * 9
    assert found["best"] == " two"
    assert found["best_id"] == found["id"]


def test_a_stream_is_of_the_pieces_of_the_text(client: ClientProcess, model: ServedModel) -> None:
    program = "return list(client.text_generation('One', max_new_tokens=8, stream=True))"
    assert ask(client, model, program) == [f" {word}" for word in COUNTED.split()]


def test_a_stream_with_details_ends_with_the_whole(
    client: ClientProcess, model: ServedModel
) -> None:
    program = """
events = list(client.text_generation("One", stream=True, details=True, top_n_tokens=1))
last = events[-1]
return {
    "tokens": [event.token.text for event in events],
    "special": [event.token.special for event in events],
    "texts": [event.generated_text for event in events[:-1]],
    "whole": last.generated_text,
    "reason": last.details.finish_reason,
    "count": last.details.generated_tokens,
    "top": [event.top_tokens[0]["text"] for event in events[:2]],
}
"""
    found = ask(client, model, program)
    assert "".join(found["tokens"][:-1]) == COUNTED
    assert found["special"] == [False] * 8 + [True]
    assert found["texts"] == [None] * 8
    assert found["whole"] == COUNTED
    assert (found["reason"], found["count"]) == ("eos_token", 9)
    assert found["top"] == [" two", " three"]


@pytest.mark.parametrize(
    ("parameters", "text", "reason"),
    [
        ("max_new_tokens=3", " two three four", "length"),
        ("STOP=[' four']", " two three four", "stop_sequence"),
        ("temperature=0.5, top_k=1", COUNTED, "eos_token"),
        ("do_sample=True, top_p=0.5, seed=3", COUNTED, "eos_token"),
        ("typical_p=0.5, seed=3, watermark=True", COUNTED, "eos_token"),
        ("repetition_penalty=1.1", COUNTED, "eos_token"),
        ("best_of=2, do_sample=True, top_k=1", COUNTED, "eos_token"),
    ],
)
def test_parameters_do_what_their_names_say(
    client: ClientProcess, model: ServedModel, parameters: str, text: str, reason: str
) -> None:
    program = f"""
output = client.text_generation("One", {parameters}, details=True)
return [output.generated_text, output.details.finish_reason]
"""
    assert ask(client, model, program) == [text, reason]


def test_truncate_keeps_the_end_of_the_prompt(client: ClientProcess, model: ServedModel) -> None:
    program = """
output = client.text_generation("zzzz\\nOne", truncate=1, max_new_tokens=1, details=True,
                                decoder_input_details=True)
return [len(output.details.prefill), output.generated_text]
"""
    count, text = ask(client, model, program)
    assert (count, text) == (1, " two")


def test_best_of_gives_the_others_too(client: ClientProcess, model: ServedModel) -> None:
    program = """
output = client.text_generation("One", best_of=2, do_sample=True, temperature=2.0, details=True)
others = output.details.best_of_sequences
return [len(others), others[0].generated_text, len(others[0].tokens)]
"""
    count, text, num_tokens = ask(client, model, program)
    assert count == 1
    assert isinstance(text, str)
    assert num_tokens > 0


@pytest.mark.parametrize(
    ("grammar", "text"),
    [
        ('{"type": "regex", "value": "[0-9]{3}"}', "666"),
        (
            '{"type": "json", "value": {"properties": {"age": {"const": 6}}, "required": ["age"]}}',
            '{"age":6}',
        ),
    ],
    ids=["regex", "json"],
)
def test_a_grammar_binds_the_text(
    client: ClientProcess, model: ServedModel, grammar: str, text: str
) -> None:
    program = f"return client.text_generation('One', grammar={grammar}, max_new_tokens=50)"
    assert ask(client, model, program).replace(" ", "") == text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("'One', temperature=-1.0", "`temperature` must be strictly positive"),
        ("'One', top_p=1.0", "`top_p` must be > 0.0 and < 1.0"),
        ("'One', typical_p=2.0", "`typical_p` must be > 0.0 and < 1.0"),
        ("'One', top_k=-1", "`top_k` must be strictly positive"),
        ("'One', repetition_penalty=-1.0", "`repetition_penalty` must be strictly positive"),
        ("'One', max_new_tokens=-1", "`max_new_tokens` must be strictly positive"),
        ("'One', best_of=2", "you must use sampling when `best_of` is > 1"),
        ("'One', best_of=2, do_sample=True, seed=1", "`seed` must not be set when `best_of` > 1"),
        ("'One', best_of=9, do_sample=True", "`best_of` must be > 0 and <= 2. Given: 9"),
        ("'One', top_n_tokens=9", "`top_n_tokens` must be >= 0 and <= 5. Given: 9"),
        (
            "'One', STOP=list('abcde')",
            "`stop` supports up to 4 stop sequences. Given: 5",
        ),
        ("''", "`inputs` cannot be empty"),
        ("'x' * 3000", f"`inputs` must have less than {CONTEXT_LENGTH - 1} tokens. Given: 3000"),
        (
            "'One', max_new_tokens=2048",
            "Given: 1 `inputs` tokens and 2048 `max_new_tokens`",
        ),
        ("'One', truncate=99999", "`truncate` must be strictly positive and less than"),
        (
            "'One', grammar={'type': 'json', 'value': {'type': 'object'}}",
            "grammar is not valid: Grammar must have a 'properties' field",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_what_is_wrong_raises_the_typed_error(
    client: ClientProcess, model: ServedModel, arguments: str, sentence: str, stream: bool
) -> None:
    if stream and "best_of" in arguments:
        sentence = "`best_of`"
    program = f"return list(client.text_generation({arguments}, stream={stream}))"
    with pytest.raises(ClientError) as caught:
        ask(client, model, program)
    assert caught.value.name == "ValidationError"
    assert sentence in caught.value.text
    assert "Input validation error: " in caught.value.text


def test_prefill_cannot_be_streamed(client: ClientProcess, model: ServedModel) -> None:
    program = """
return list(client.text_generation("One", decoder_input_details=True, details=True, stream=True))
"""
    with pytest.raises(ClientError, match="not supported when streaming") as caught:
        ask(client, model, program)
    assert caught.value.name == "ValidationError"


def test_a_parameter_may_be_null(client: ClientProcess, model: ServedModel) -> None:
    program = "return client.text_generation('One', top_k=None, seed=None, STOP=None)"
    assert ask(client, model, program) == COUNTED


def test_a_header_asks_for_a_fresh_answer(client: ClientProcess, model: ServedModel) -> None:
    program = """
ask = lambda client: client.text_generation("x", do_sample=True, temperature=9.0, max_new_tokens=9)
fresh = client_of(client.model, headers={"x-use-cache": "0"})
return [[ask(client) for _ in range(3)], [ask(fresh) for _ in range(5)]]
"""
    kept, fresh = ask(client, model, program)
    assert len(set(kept)) == 1
    assert len(set(fresh)) > 1


@pytest.mark.parametrize("version", ["2.4", "0.36"], indirect=True)
def test_the_endpoint_describes_itself(client: ClientProcess, model: ServedModel) -> None:
    info, is_healthy = ask(
        client, model, "return [client.get_endpoint_info(), client.health_check()]"
    )
    assert is_healthy is True
    assert info["model_id"] == model.name
    assert info["max_total_tokens"] == CONTEXT_LENGTH
    assert (info["max_best_of"], info["max_stop_sequences"]) == (2, 4)


def test_the_environment_alone_leads_the_eldest_here(
    eldest_by_environment: ClientProcess, model: ServedModel
) -> None:
    program = """
client = InferenceClient(model=name, token=os.environ["HF_TOKEN"])
pieces = client.text_generation("One", max_new_tokens=8, stream=True)
messages = [{"role": "user", "content": "Why?"}]
return [
    client.text_generation("One"),
    list(pieces),
    client.chat_completion(messages, temperature=0.0).choices[0].message.content,
    client.get_model_status().state,
    client.list_deployed_models("text-generation-inference"),
]
"""
    text, pieces, answer, state, deployed = eldest_by_environment.ask(program, name=model.name)
    assert text == "".join(pieces) == COUNTED
    assert len(pieces) == 8
    assert answer == "The sky is blue."
    assert state == "Loaded"
    assert model.name in deployed["text-generation"]


def ask(client: ClientProcess, model: ServedModel, program: str) -> Any:
    """Run a program in which `client` is the model's; `STOP` is what it calls stop texts."""
    program = "client = client_of(url)\n" + program.strip().replace(
        "STOP", client.ask("return STOP")
    )
    return client.ask(program, url=model.url)
