"""Programs that know the public hub alone, unchanged, by their environment only.

What they are set up with is what `gatehouse env` prints.
"""

import shlex
import shutil
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from client_process import ClientProcess, python_process
from hub_server import HubServer, Person, free_port
from llama_tokenizer import HELLO_WORLD, publish_tokenizer
from served_model import ServedModel, push_model
from stock_client import NODE_FOLDER, ProgramFailed, StockClient
from written_model import ANSWER, COUNTED

UNCHANGED = {
    "encode_unchanged_huggingface.mjs": "@huggingface/transformers",
    "encode_unchanged_xenova.mjs": "@xenova/transformers",
}
NewMachine = Callable[..., StockClient]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    server = HubServer(tmp_path_factory.mktemp("drop-in"), drop_in_port=str(free_port()))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def reader(hub: HubServer) -> Person:
    return hub.person("reader")


@pytest.fixture(scope="module")
def model(hub: HubServer, written_folder: Path) -> ServedModel:
    return push_model(hub.person("owner"), "written", written_folder)


@pytest.fixture(scope="module")
def member(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Somebody who was let in to a gated repository with the tokenizer of Llama 2."""
    return publish_tokenizer(hub, tmp_path_factory.mktemp("llama"))


@pytest.fixture
def new_machine(hub: HubServer, tmp_path: Path) -> NewMachine:
    """A machine on which the lines of `gatehouse env` for one client were typed."""

    def make(client: str, token: str | None = None, **variables: str) -> StockClient:
        lines = hub.gatehouse("env", "--client", client, "--url", hub.url).splitlines()
        pairs = (shlex.split(line)[1].partition("=") for line in lines)
        environment = {name: value for name, _, value in pairs}
        # The public hub's address is what clients have without a setting.
        machine = StockClient(hub, tmp_path / "machine", token, endpoint="https://huggingface.co")
        machine.environment.update(environment | variables)
        return machine

    return make


@pytest.fixture
def _no_cached_models() -> Iterator[None]:
    """Unchanged programs keep what they downloaded beside the package."""

    def remove() -> None:
        for package in UNCHANGED.values():
            shutil.rmtree(NODE_FOLDER / "node_modules" / package / ".cache", ignore_errors=True)

    remove()
    yield
    remove()


def test_inference_client_streams_a_plain_model_id(
    new_machine: NewMachine, reader: Person, model: ServedModel
) -> None:
    pieces = new_machine("huggingface_hub", reader.read_token).python(
        """
        import json, os, sys
        from huggingface_hub import InferenceClient
        client = InferenceClient(model=sys.argv[1], token=os.environ["HF_TOKEN"])
        print(json.dumps(list(client.text_generation("One", stream=True, max_new_tokens=8))))
        """,
        model.name,
    )
    assert len(pieces) > 5
    assert "".join(pieces) == COUNTED


def test_inference_client_chats_with_a_plain_model_id(
    new_machine: NewMachine, reader: Person, model: ServedModel
) -> None:
    answer = new_machine("huggingface_hub", reader.read_token).python(
        """
        import json, sys
        from huggingface_hub import InferenceClient
        client = InferenceClient(model=sys.argv[1])
        answer = client.chat_completion([{"role": "user", "content": "Hello"}], temperature=0)
        print(json.dumps(answer.choices[0].message.content))
        """,
        model.name,
    )
    assert answer == ANSWER


def test_an_older_inference_client_streams_a_plain_model_id(
    new_machine: NewMachine, reader: Person, model: ServedModel
) -> None:
    machine = new_machine("huggingface_hub", reader.read_token)
    opening = "from huggingface_hub import InferenceClient"
    process = python_process(machine, "hub-0.36")
    pieces = ClientProcess(process, opening).ask(
        "client = InferenceClient(model=name)\n"
        "return list(client.text_generation('One', stream=True, max_new_tokens=8))",
        name=model.name,
    )
    process.close()
    assert "".join(pieces) == COUNTED


def test_the_inference_api_client_of_text_generation_runs_a_plain_model_id(
    new_machine: NewMachine, reader: Person, model: ServedModel
) -> None:
    machine = new_machine("text-generation", reader.read_token)
    opening = "import os\nfrom text_generation import InferenceAPIClient"
    process = python_process(machine, "hub-0.36")
    text = ClientProcess(process, opening).ask(
        "client = InferenceAPIClient(name, token=os.environ['HF_TOKEN'], timeout=60)\n"
        "return client.generate('One').generated_text",
        name=model.name,
    )
    process.close()
    assert text == COUNTED


@pytest.mark.parametrize("endpoint", ["the hub's own", "the public one"])
def test_hf_downloads_a_plain_model_id(
    new_machine: NewMachine, model: ServedModel, endpoint: str, tmp_path: Path
) -> None:
    variables = {} if endpoint == "the hub's own" else {"HF_ENDPOINT": "https://huggingface.co"}
    machine = new_machine("huggingface_hub", **variables)
    hf = Path(sys.executable).with_name("hf")
    machine.check(hf, "download", model.name, "--local-dir", tmp_path / "found")
    assert (tmp_path / "found" / "model.safetensors").stat().st_size > 100_000


@pytest.mark.parametrize("program", UNCHANGED)
@pytest.mark.usefixtures("_no_cached_models")
def test_transformers_js_encodes_with_no_line_added(
    new_machine: NewMachine, member: Person, reader: Person, program: str
) -> None:
    stranger = new_machine("transformers.js", reader.read_token)
    with pytest.raises(ProgramFailed):
        stranger.node(program)
    assert new_machine("transformers.js", member.read_token).node(program) == HELLO_WORLD


@pytest.mark.usefixtures("_no_cached_models")
def test_node_reaches_other_hosts_as_ever(new_machine: NewMachine, hub: HubServer) -> None:
    machine = new_machine("transformers.js")
    found = machine.check(
        "node",
        "--input-type=module",
        "--eval",
        f"console.log((await fetch('{hub.url}/health')).status)\n"
        "const failed = error => console.log(error.cause.code)\n"
        "await fetch('https://gatehouse.invalid/').catch(failed)",
    )
    assert found.split() == ["200", "ENOTFOUND"]


def test_node_without_the_other_variables_runs_as_ever(new_machine: NewMachine) -> None:
    machine = new_machine("transformers.js", GATEHOUSE_DROP_IN="")
    assert machine.check("node", "--eval", "console.log(1)") == "1\n"


def test_huggingface_js_runs_a_plain_model_id(
    new_machine: NewMachine, reader: Person, model: ServedModel
) -> None:
    found = new_machine("huggingface.js", reader.read_token).node("run_plain_id.mjs", model.name)
    assert found == {"text": COUNTED, "chat": ANSWER}


def test_curl_reaches_the_names_and_no_others(new_machine: NewMachine, model: ServedModel) -> None:
    machine = new_machine("curl")
    answer = machine.check("curl", "-sS", f"https://huggingface.co/api/models/{model.name}")
    assert f'"id":"{model.name}"' in answer
    refused = machine.run("curl", "-sS", "https://example.com/")
    assert refused.returncode
    assert "403" in refused.stderr


def test_git_clones_from_the_public_address(
    new_machine: NewMachine, model: ServedModel, tmp_path: Path
) -> None:
    machine = new_machine("git", GIT_LFS_SKIP_SMUDGE="1")
    address = f"https://huggingface.co/{model.name}"
    machine.check("git", "clone", "-q", address, tmp_path / "clone")
    assert (tmp_path / "clone" / "config.json").exists()


def test_answers_name_the_address_that_was_called(
    hub: HubServer, model: ServedModel, new_machine: NewMachine
) -> None:
    headers = {"Host": "huggingface.co"}
    page = httpx.get(f"{hub.url}/{model.name}", headers=headers | {"Accept": "text/html"})
    assert "https://huggingface.co" in page.text
    assert hub.url not in page.text


def test_a_listener_that_dies_is_started_again(
    hub: HubServer, new_machine: NewMachine, model: ServedModel
) -> None:
    machine = new_machine("curl")
    url = f"https://huggingface.co/api/models/{model.name}"
    assert hub._process is not None
    (listener,) = (
        child
        for child in hub._process.children(recursive=True)
        if "gatehouse.server.drop_in.listener" in child.cmdline()
    )
    listener.kill()
    deadline = time.monotonic() + 30
    while machine.run("curl", "-sS", "-f", url).returncode:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert not psutil.pid_exists(listener.pid)


def test_the_printed_lines_hold_no_secret(hub: HubServer) -> None:
    folder = hub.data_dir / "drop_in"
    printed = hub.gatehouse("env", "--client", "transformers.js", "--url", hub.url)
    assert "PRIVATE" not in printed
    named = [part for part in shlex.split(printed) if str(folder) in part]
    assert named
    assert ssl.create_default_context(cafile=str(folder / "ca.pem")).get_ca_certs()


def test_public_files_are_copied_for_others(hub: HubServer, tmp_path: Path) -> None:
    target = tmp_path / "public"
    arguments = ("env", "--client", "git", "--public-files", str(target), "--url", hub.url)
    printed = hub.gatehouse(*arguments)
    assert str(target / "roots.pem") in printed
    assert sorted(path.name for path in target.iterdir()) == ["ca.pem", "drop_in.mjs", "roots.pem"]
    assert not any(b"PRIVATE" in path.read_bytes() for path in target.iterdir())
