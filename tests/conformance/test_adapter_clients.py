"""An adapter in a repository of its own, as stock clients push it and ask for it."""

import json
from pathlib import Path

import httpx
import numpy as np
from client_process import NewProcess, python_process
from hub_server import HubServer, Person
from huggingface_hub import HfApi
from safetensors import safe_open
from safetensors.numpy import save_file
from test_chosen_runner import push_storyteller

PROGRAM = """
from concurrent.futures import ThreadPoolExecutor
from huggingface_hub import InferenceClient

PROMPTS = ["Once upon a time", "My name is", "A fox named Pip", "In the evening"]
client = InferenceClient(model=url, token=token, headers={"x-use-cache": "0"})

def whole(task):
    prompt, adapter = task
    return client.text_generation(prompt, max_new_tokens=24, adapter_id=adapter)

def streamed(task):
    prompt, adapter = task
    pieces = client.text_generation(prompt, max_new_tokens=24, adapter_id=adapter, stream=True)
    return "".join(pieces)

def refused(adapter):
    try:
        whole(("a", adapter))
    except Exception as error:
        return [type(error).__name__, str(error)]

tasks = [(prompt, adapter) for prompt in PROMPTS for adapter in (None, *adapters)]
alone = [whole(task) for task in tasks]
with ThreadPoolExecutor(8) as threads:
    together = list(threads.map(whole, tasks))
    streams = list(threads.map(streamed, tasks))
return {
    "alone": alone,
    "together": together,
    "streams": streams,
    "missing": refused("nobody/nothing"),
    "foreign": refused(foreign),
}
"""


def test_adapters_share_a_model_and_change_its_answers(
    server: HubServer, new_process: NewProcess, alice: Person, tmp_path: Path
) -> None:
    base = push_storyteller(server, alice, "adapted")
    model = HfApi(server.url, token=alice.read_token).hf_hub_download(base, "model.safetensors")
    adapters = [
        push_adapter(server, alice, f"voice-{seed}", save(tmp_path / str(seed), Path(model), seed))
        for seed in (1, 2)
    ]
    foreign = push_adapter(
        server, alice, "foreign", save(tmp_path / "foreign", Path(model), 3, extra=1)
    )
    url = f"{server.url}/models/{base}"
    told = new_process(python_process, None, "").ask(
        PROGRAM, url=url, token=alice.read_token, adapters=adapters, foreign=foreign
    )
    assert told["together"] == told["alone"]
    assert [text.removesuffix("</s>") for text in told["streams"]] == told["alone"]
    by_prompt = [told["alone"][place : place + 3] for place in range(0, 12, 3)]
    assert all(len(set(texts)) == 3 for texts in by_prompt)
    assert told["missing"][0] == "RepositoryNotFoundError"
    # What the client makes of a 422 of text generation.
    assert told["foreign"][0] == "ValidationError"
    assert "is it an adapter of another base model?" in told["foreign"][1]
    body = {"model": base, "prompt": "Once upon a time", "max_tokens": 24, "temperature": 0}
    headers = {"Authorization": f"Bearer {alice.read_token}"}
    for adapter, text in zip((None, *adapters), by_prompt[0], strict=True):
        answer = httpx.post(
            f"{server.url}/v1/completions",
            json={**body, "adapter_id": adapter},
            headers=headers,
            timeout=60,
        )
        assert answer.json()["choices"][0]["text"] == text


def save(folder: Path, model: Path, seed: int, extra: int = 0) -> Path:
    """An adapter of a rank of 8; with `extra`, of a wider model than this one."""
    draw = np.random.default_rng(seed)
    tensors = {}
    with safe_open(model, "np") as stored:
        names: list[str] = stored.keys()
        wanted = [name for name in names if name.endswith(("v_proj.weight", "up_proj.weight"))]
        shapes = {name: stored.get_slice(name).get_shape() for name in wanted}
    for name, (num_out, num_in) in shapes.items():
        path = f"base_model.model.{name.removesuffix('.weight')}"
        down = draw.normal(size=(8, num_in + extra)) / np.sqrt(num_in)
        tensors[f"{path}.lora_A.weight"] = down.astype(np.float32)
        tensors[f"{path}.lora_B.weight"] = draw.normal(size=(num_out, 8)).astype(np.float16)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "target_modules": ["v_proj", "up_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def push_adapter(server: HubServer, owner: Person, name: str, folder: Path) -> str:
    repo_id = f"{owner.name}/{name}"
    api = HfApi(server.url, token=owner.write_token)
    api.create_repo(repo_id, private=True)
    api.upload_folder(repo_id=repo_id, folder_path=folder)
    return repo_id
