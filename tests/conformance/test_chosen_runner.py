"""A model that an administrator has run by continuous batching, as stock clients see it."""

from importlib import resources
from pathlib import Path

import httpx
from client_process import NewProcess, python_process
from hub_server import HubServer, Person
from huggingface_hub import HfApi

PROGRAM = """
from concurrent.futures import ThreadPoolExecutor
from huggingface_hub import InferenceClient

PROMPTS = ["Once upon a time", "My name is", "A fox named Pip", "In the evening"]
client = InferenceClient(model=url, token=token, headers={"x-use-cache": "0"})

def whole(prompt):
    return client.text_generation(prompt, max_new_tokens=40)

def streamed(prompt):
    return "".join(client.text_generation(prompt, max_new_tokens=40, stream=True))

with ThreadPoolExecutor(8) as threads:
    together = list(threads.map(whole, PROMPTS * 2))
    streams = list(threads.map(streamed, PROMPTS * 2))
alone = [whole(prompt) for prompt in PROMPTS]
details = client.text_generation(
    "The gate opened and", max_new_tokens=5, details=True, decoder_input_details=True
)
grammar = {"type": "regex", "value": "[0-9]{4}"}
return {
    "alone": alone,
    "together": together,
    "streams": streams,
    "tokens": [token.text for token in details.details.tokens],
    "prefill": len(details.details.prefill),
    "digits": client.text_generation("The year", max_new_tokens=10, grammar=grammar),
}
"""


def test_openvino_serves_the_surfaces_and_no_answer_depends_on_the_crowd(
    server: HubServer, new_process: NewProcess, alice: Person
) -> None:
    repo_id = push_storyteller(server, alice)
    server.gatehouse("model", "set", repo_id, "--runner", "openvino")
    url = f"{server.url}/models/{repo_id}"
    told = new_process(python_process, None, "").ask(PROGRAM, url=url, token=alice.read_token)
    headers = {"Authorization": f"Bearer {alice.read_token}"}
    info = httpx.get(f"{url}/info", headers=headers, timeout=60).json()
    assert (info["model_id"], info["engine"]) == (repo_id, "openvino")
    assert told["together"] == told["alone"] * 2
    # The client shows the token that ends a text, in streams alone.
    assert [text.removesuffix("</s>") for text in told["streams"]] == told["alone"] * 2
    assert len(set(told["alone"])) == 4
    assert len(told["tokens"]) == 5
    assert told["prefill"] > 3
    assert told["digits"].isdigit()
    assert len(told["digits"]) == 4


def push_storyteller(server: HubServer, owner: Person, name: str = "batched") -> str:
    repo_id = f"{owner.name}/{name}"
    api = HfApi(server.url, token=owner.write_token)
    api.create_repo(repo_id)
    folder = Path(str(resources.files("gatehouse.server"))) / "demo_models" / "storyteller"
    api.upload_folder(repo_id=repo_id, folder_path=folder, ignore_patterns="README.md")
    return repo_id
