"""An engine that has no room, or breaks while it answers: the typed errors of every client.

The engine is another server, so that a test can say when it breaks; or a model that cannot go on.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from client_process import ClientError, ClientProcess, NewProcess, node_process, python_process
from hub_server import HubServer
from remote_upstream import Asked, text_chunk, upstream, usage
from safetensors.numpy import load_file, save_file
from served_model import ServedModel, push_model

OPENING = """
import os
from huggingface_hub import InferenceClient

def client_of(url):
    return InferenceClient(model=url, token=os.environ["HF_TOKEN"])
"""
TEXT_GENERATION_OPENING = """
import os
from text_generation import Client

def client_of(url):
    headers = {"Authorization": f"Bearer {os.environ['HF_TOKEN']}"}
    return Client(url, headers=headers, timeout=60)
"""
OPENAI_OPENING = """
import os
from openai import OpenAI

def client_of(url):
    return OpenAI(base_url=f"{url}/v1", api_key=os.environ["HF_TOKEN"], max_retries=0)
"""
NODE_OPENING = """
const client = new inference.InferenceClient(process.env.HF_TOKEN)
const read = async (stream) => { for await (const event of stream) void event }
return { client, read }
"""
HUB_PROGRAMS = (
    "return client_of(url).text_generation(prompt)",
    # A client that nobody holds closes its streams.
    "client = client_of(url)\nreturn list(client.text_generation(prompt, stream=True))",
)


@dataclass(frozen=True)
class Client:
    """How one is started, and how it asks for a whole answer and for a stream."""

    opening: str
    packages: str | None
    programs: tuple[str, str]
    make: Callable[..., object] = python_process


CLIENTS = {
    "2.4": Client(OPENING, None, HUB_PROGRAMS),
    "0.36": Client(OPENING, "hub-0.36", HUB_PROGRAMS),
    "0.23": Client(OPENING, "hub-0.23", HUB_PROGRAMS),
    "text-generation": Client(
        TEXT_GENERATION_OPENING,
        "hub-0.36",
        (
            "return client_of(url).generate(prompt)",
            "return list(client_of(url).generate_stream(prompt))",
        ),
    ),
    "openai": Client(
        OPENAI_OPENING,
        None,
        (
            "return client_of(url).completions.create(model='any', prompt=prompt)",
            "return list(client_of(url).completions.create(model='', prompt=prompt, stream=True))",
        ),
    ),
    "js": Client(
        NODE_OPENING,
        None,
        (
            "return await client.textGeneration({ endpointUrl: url, inputs: prompt })",
            "return await read(client.textGenerationStream({ endpointUrl: url, inputs: prompt }))",
        ),
        node_process,
    ),
}
GENERATION_ERRORS = {"openai": "APIStatusError", "js": "InferenceClientProviderApiError"}
TGI_ERRORS = {"full": "OverloadedError", "breaks": "IncompleteGenerationError"}


async def script(asked: Asked) -> None:
    """Does what the prompt says."""
    prompt = str(asked.body.get("prompt"))
    if "full" in prompt:
        await asked.answer({"error": {"message": "no"}}, "429 Too Many Requests")
        return
    await asked.head()
    await asked.event(text_chunk("One"))
    if "breaks" not in prompt:
        await asked.event(text_chunk(" two", "stop"))
        await asked.event(usage(1, 2))
        await asked.event("[DONE]")


@pytest.fixture(scope="module")
def fragile(server: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    folder = tmp_path_factory.mktemp("card")
    (folder / "README.md").write_text("# Runs elsewhere\n")
    model = push_model(server.person("alice"), "fragile", folder)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(upstream(script)) as other,
    ):
        server.gatehouse(
            *("remote", "add", model.name, "--url", f"{other.url}/v1", "--kind", "openai"),
            *("--model", "far", "--context-length", "100"),
        )
        yield model


@pytest.fixture(scope="module")
def broken(
    server: HubServer, written_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> ServedModel:
    """A model whose numbers grow too large after the token that the prompt is."""
    folder = shutil.copytree(written_folder, tmp_path_factory.mktemp("broken") / "model")
    weights = load_file(folder / "model.safetensors")
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    embedding = weights["model.embed_tokens.weight"]
    own = (embedding[vocabulary["One"]] != 0) & (embedding[0] == 0)
    weights["lm_head.weight"][0, own] = 3e38
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return push_model(server.person("alice"), "broken", folder)


@pytest.fixture(scope="module", params=CLIENTS)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def client(family: str, new_process: NewProcess, server: HubServer) -> ClientProcess:
    token = server.person("carol", "--plan", "pro").read_token
    known = CLIENTS[family]
    return new_process(known.make, token, known.opening, known.packages)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("prompt", ["full", "breaks"])
def test_what_goes_wrong_raises_the_typed_error(
    client: ClientProcess, family: str, fragile: ServedModel, prompt: str, stream: bool
) -> None:
    program = CLIENTS[family].programs[stream]
    client.ask(program, prompt="fine", url=fragile.url)
    with pytest.raises(ClientError) as caught:
        client.ask(program, prompt=prompt, url=fragile.url)
    error = caught.value
    if family == "js":
        assert error.name == "InferenceClientProviderApiError"
    elif family == "openai":
        name = "RateLimitError" if prompt == "full" else "APIError"
        assert name in error.names
    else:
        assert error.name == TGI_ERRORS[prompt]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_model_that_breaks_raises_the_typed_error(
    client: ClientProcess, family: str, broken: ServedModel, stream: bool
) -> None:
    with pytest.raises(ClientError) as caught:
        client.ask(CLIENTS[family].programs[stream], prompt="One", url=broken.url)
    assert GENERATION_ERRORS.get(family, "GenerationError") in caught.value.names
    assert "Request failed during generation" in caught.value.text
