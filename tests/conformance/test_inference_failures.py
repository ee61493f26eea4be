"""An engine that has no room, or breaks while it answers: the typed errors of every client.

The engine is another server, so that a test can say when it breaks.
"""

from collections.abc import Iterator

import pytest
from anyio.from_thread import start_blocking_portal
from client_process import ClientError, ClientProcess, NewProcess, node_process, python_process
from hub_server import HubServer
from remote_upstream import Asked, text_chunk, upstream, usage
from served_model import ServedModel, push_model

OPENING = """
import os
from huggingface_hub import InferenceClient
client = InferenceClient(model=os.environ["MODEL"], token=os.environ["HF_TOKEN"])
"""
TEXT_GENERATION_OPENING = """
import os
from text_generation import Client
headers = {"Authorization": f"Bearer {os.environ['HF_TOKEN']}"}
client = Client(os.environ["MODEL"], headers=headers, timeout=60)
"""
OPENAI_OPENING = """
import os
from openai import OpenAI
base_url = os.environ["MODEL"] + "/v1"
client = OpenAI(base_url=base_url, api_key=os.environ["HF_TOKEN"], max_retries=0)
"""
NODE_OPENING = """
const client = new inference.InferenceClient(process.env.HF_TOKEN)
const endpointUrl = process.env.MODEL
const read = async (stream) => { for await (const event of stream) void event }
return { client, endpointUrl, read }
"""
HUB_PROGRAMS = (
    "return client.text_generation(prompt)",
    "return list(client.text_generation(prompt, stream=True))",
)
# How each is started, and the programs that ask for a whole answer and for a stream.
CLIENTS = {
    "2.4": (python_process, OPENING, None, *HUB_PROGRAMS),
    "0.36": (python_process, OPENING, "hub-0.36", *HUB_PROGRAMS),
    "0.23": (python_process, OPENING, "hub-0.23", *HUB_PROGRAMS),
    "text-generation": (
        python_process,
        TEXT_GENERATION_OPENING,
        "hub-0.36",
        "return client.generate(prompt)",
        "return list(client.generate_stream(prompt))",
    ),
    "openai": (
        python_process,
        OPENAI_OPENING,
        None,
        "return client.completions.create(model='any', prompt=prompt)",
        "return list(client.completions.create(model='any', prompt=prompt, stream=True))",
    ),
    "js": (
        node_process,
        NODE_OPENING,
        None,
        "return await client.textGeneration({ endpointUrl, inputs: prompt })",
        "return await read(client.textGenerationStream({ endpointUrl, inputs: prompt }))",
    ),
}
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


@pytest.fixture(scope="module", params=CLIENTS)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def client(
    family: str, new_process: NewProcess, server: HubServer, fragile: ServedModel
) -> ClientProcess:
    make, opening, packages, *_ = CLIENTS[family]
    token = server.person("carol", "--plan", "pro").read_token
    arguments = [opening] if make is node_process else [opening, packages]
    return new_process(make, token, *arguments, MODEL=fragile.url)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("prompt", ["full", "breaks"])
def test_what_goes_wrong_raises_the_typed_error(
    client: ClientProcess, family: str, prompt: str, stream: bool
) -> None:
    program = CLIENTS[family][-1 if stream else -2]
    assert isinstance(program, str)
    client.ask(program, prompt="fine")
    with pytest.raises(ClientError) as caught:
        client.ask(program, prompt=prompt)
    error = caught.value
    if family == "js":
        assert error.name == "InferenceClientProviderApiError"
    elif family == "openai":
        name = "RateLimitError" if prompt == "full" else "APIError"
        assert name in error.names
    else:
        assert error.name == TGI_ERRORS[prompt]
