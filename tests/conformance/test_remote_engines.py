"""Models that another server runs, reached by stock clients through this hub's gate and plan.

The other server is a second Gatehouse, once as TGI and once as OpenAI; and `transformers serve`.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from client_process import ClientProcess, NewProcess, python_process
from hub_server import HubServer, Person, free_port
from served_model import ServedModel, push_model
from written_model import ANSWER, CONTEXT_LENGTH, COUNTED

KINDS = ["openai", "tgi"]
OPENING = """
import os
from huggingface_hub import InferenceClient
from openai import OpenAI, NotFoundError

def client_of(url):
    return InferenceClient(model=url, token=os.environ["HF_TOKEN"])

def openai_of(url):
    return OpenAI(base_url=url + "/v1", api_key=os.environ["HF_TOKEN"], max_retries=0)
"""
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """The server that runs the model."""
    server = HubServer(tmp_path_factory.mktemp("far"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def far_model(far: HubServer, written_folder: Path) -> ServedModel:
    """Private there: only this hub's key opens it."""
    return push_model(far.person("keeper"), "written", written_folder, private=True)


@pytest.fixture(scope="module", params=KINDS)
def model(
    request: pytest.FixtureRequest,
    server: HubServer,
    far: HubServer,
    far_model: ServedModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> ServedModel:
    """A private repository without weights, whose model the other server runs."""
    kind = str(request.param)
    folder = tmp_path_factory.mktemp("card")
    (folder / "README.md").write_text("# Runs elsewhere\n")
    model = push_model(server.person("alice"), f"far-{kind}", folder, private=True)
    url = f"{far.url}/v1" if kind == "openai" else far_model.url
    printed = server.gatehouse(
        *("remote", "add", model.name, "--url", url, "--kind", kind, "--key-stdin"),
        *("--model", far_model.name, "--context-length", str(CONTEXT_LENGTH)),
        stdin=f"{far.person('keeper').read_token}\n",
    )
    assert "texts: yes" in printed
    assert "conversations: yes" in printed
    return model


@pytest.fixture(scope="module")
def client(new_process: NewProcess, server: HubServer) -> ClientProcess:
    return new_process(python_process, server.person("alice").read_token, OPENING)


def test_text_is_generated_there(client: ClientProcess, model: ServedModel) -> None:
    program = """
output = client_of(url).text_generation("One", details=True)
return [output.generated_text, output.details.finish_reason, output.details.generated_tokens]
"""
    assert client.ask(program, url=model.url) == [COUNTED, "eos_token", 9]


def test_text_is_streamed_token_by_token(client: ClientProcess, model: ServedModel) -> None:
    program = """
client = client_of(url)
stream = client.text_generation("One", stream=True, details=True, max_new_tokens=4)
return [[item.token.text, item.generated_text] for item in stream]
"""
    assert client.ask(program, url=model.url) == [
        [" two", None],
        [" three", None],
        [" four", None],
        [" five", " two three four five"],
    ]


def test_stop_texts_end_it_here(client: ClientProcess, model: ServedModel) -> None:
    program = """
output = client_of(url).text_generation("One", stop=["four"], details=True)
return [output.generated_text, output.details.finish_reason]
"""
    assert client.ask(program, url=model.url) == [" two three four", "stop_sequence"]


def test_conversations_go_through(client: ClientProcess, model: ServedModel) -> None:
    program = """
messages = [{"role": "user", "content": "Hello"}]
answer = openai_of(url).chat.completions.create(model="x", messages=messages, temperature=0)
return [answer.choices[0].message.content, answer.choices[0].finish_reason, answer.usage]
"""
    text, reason, usage = client.ask(program, url=model.url)
    assert (text, reason) == (ANSWER, "stop")
    assert usage["prompt_tokens"] > 0
    assert usage["completion_tokens"] > 0


def test_conversations_are_streamed(client: ClientProcess, model: ServedModel) -> None:
    program = """
messages = [{"role": "user", "content": "Hello"}]
options = {"model": "x", "messages": messages, "temperature": 0, "stream": True}
stream = openai_of(url).chat.completions.create(**options)
return [chunk.choices[0].delta.content for chunk in stream]
"""
    pieces = client.ask(program, url=model.url)
    assert "".join(piece or "" for piece in pieces) == ANSWER
    assert len([piece for piece in pieces if piece]) > 2


@pytest.mark.parametrize("is_stream", [False, True])
def test_tools_are_called(client: ClientProcess, model: ServedModel, is_stream: bool) -> None:
    program = """
messages = [{"role": "user", "content": "What is the forecast?"}]
options = {"model": "x", "messages": messages, "tools": [tool], "temperature": 0}
if is_stream:
    name, arguments = "", ""
    for chunk in openai_of(url).chat.completions.create(stream=True, **options):
        for call in chunk.choices[0].delta.tool_calls or []:
            name += call.function.name or ""
            arguments += call.function.arguments or ""
    return [name, arguments]
answer = openai_of(url).chat.completions.create(**options).choices[0]
(call,) = answer.message.tool_calls
return [call.function.name, call.function.arguments]
"""
    name, arguments = client.ask(program, url=model.url, tool=TOOL, is_stream=is_stream)
    assert name == "get_weather"
    assert arguments.replace(" ", "") == '{"city":"Paris"}'


def test_the_gate_is_this_hubs(new_process: NewProcess, bob: Person, model: ServedModel) -> None:
    stranger = new_process(python_process, bob.read_token, OPENING)
    program = """
try:
    openai_of(url).completions.create(model="x", prompt="One")
except NotFoundError as error:
    return str(error)
"""
    assert "does not exist" in stranger.ask(program, url=model.url)


def test_the_key_is_never_shown(server: HubServer, far: HubServer, model: ServedModel) -> None:
    key = far.person("keeper").read_token
    listed = server.gatehouse("remote", "list")
    assert model.name in listed
    assert key not in listed
    assert key not in server.log
    found = [path for path in server.data_dir.rglob("*") if path.is_file()]
    assert not any(key.encode() in path.read_bytes() for path in found)


def test_answers_are_kept_until_the_server_changes(
    server: HubServer, alice: Person, model: ServedModel
) -> None:
    def outcome() -> str:
        answer = httpx.post(
            model.url,
            headers={"Authorization": f"Bearer {alice.read_token}"},
            json={"inputs": "One", "parameters": {"max_new_tokens": 3}},
            timeout=60,
        )
        assert answer.json()[0]["generated_text"] == "One two three four"
        return answer.headers["x-cache"]

    outcome()
    assert outcome() == "HIT"
    server.gatehouse("remote", "check", model.name)
    time.sleep(2.5)  # workers look again every two seconds
    assert outcome() == "MISS"


def test_clients_learn_that_it_can_be_run(
    server: HubServer, alice: Person, model: ServedModel
) -> None:
    headers = {"Authorization": f"Bearer {alice.read_token}"}
    api = f"{server.url}/api/models/{model.name}"
    info = httpx.get(api, headers=headers).json()
    assert info["pipeline_tag"] == "text-generation"
    assert "conversational" in info["tags"]
    mapping = httpx.get(f"{api}?expand=inferenceProviderMapping", headers=headers).json()
    assert mapping["inferenceProviderMapping"]["hf-inference"]["status"] == "live"
    listed = httpx.get(f"{server.url}/v1/models", headers=headers).json()["data"]
    assert model.name in [item["id"] for item in listed]


def test_a_server_that_is_gone_is_said_to_be_and_found_again(
    far: HubServer, alice: Person, model: ServedModel
) -> None:
    headers = {"Authorization": f"Bearer {alice.read_token}", "x-use-cache": "0"}

    def ask() -> httpx.Response:
        return httpx.post(model.url, headers=headers, json={"inputs": "One"}, timeout=60)

    far.kill()
    answer = ask()
    assert answer.status_code == 503
    assert answer.json()["error"].startswith("The server that runs alice/far-")
    assert far.url not in answer.text
    far.start()
    assert ask().json()[0]["generated_text"].startswith("One two")


@pytest.fixture(scope="module")
def transformers_url(
    written_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """`transformers serve` with the written model."""
    port = free_port()
    log = tmp_path_factory.mktemp("serve") / "serve.log"
    program = Path(sys.executable).with_name("transformers")
    environment = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    environment |= {"HOME": str(log.parent), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as output:
        command = [program, "serve", "--host", "127.0.0.1", "--port", str(port), written_folder]
        process = psutil.Popen(
            list(map(str, command)), env=environment, stdout=output, stderr=output
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_up(url, process, log)
        yield url
    finally:
        process.kill()
        process.wait()


def _wait_until_up(url: str, process: psutil.Popen, log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            httpx.get(f"{url}/health", timeout=5).raise_for_status()
        except httpx.HTTPError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        else:
            return


def test_transformers_serve_is_streamed_through_gate_and_plan(
    client: ClientProcess,
    server: HubServer,
    transformers_url: str,
    written_folder: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "README.md").write_text("# Runs in transformers serve\n")
    model = push_model(server.person("alice"), "far-transformers", tmp_path)
    printed = server.gatehouse(
        *("remote", "add", model.name, "--url", transformers_url, "--model", str(written_folder)),
        *("--context-length", str(CONTEXT_LENGTH)),
    )
    assert "log-probabilities: no" in printed
    program = """
client = client_of(url)
pieces = list(client.text_generation("One", stream=True, max_new_tokens=6))
messages = [{"role": "user", "content": "Hello"}]
chunks = openai_of(url).chat.completions.create(model="x", messages=messages, stream=True,
                                                temperature=0, max_tokens=20)
return ["".join(pieces), "".join(chunk.choices[0].delta.content or "" for chunk in chunks)]
"""
    text, answer = client.ask(program, url=model.url)
    assert COUNTED.startswith(text)
    assert len(text.split()) == 6
    assert answer == ANSWER
