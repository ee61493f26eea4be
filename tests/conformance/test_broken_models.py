"""Models that are not what they say, pushed to a hub: each is refused, and the hub goes on."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from hub_server import HubServer, Person
from safetensors.numpy import load_file, save_file
from served_model import ServedModel, push_model
from written_model import COUNTED

_SECONDS = 60


def says(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        entries = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(entries | changes))

    return change


def holds_what_is_no_number(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = np.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def has_a_header_bomb(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes((2**40).to_bytes(8, "little") + data[8:])


def loses_a_shard(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    weight_map = {
        "model.norm.weight": "model-00001-of-00002.safetensors",
        "lm_head.weight": "model-00002-of-00002.safetensors",
    }
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))


_BROKEN: dict[str, tuple[Callable[[Path], None], int, str]] = {
    "nan": (holds_what_is_no_number, 400, "cannot be run: The weights hold numbers that are not"),
    "bomb": (has_a_header_bomb, 400, "cannot be run: A file of weights has a header of an imposs"),
    "wide": (says(intermediate_size=4096), 400, "it should be [4096, 64]."),
    "rope": (says(rope_parameters={"rope_theta": 0}), 400, "cannot be run: `rope_theta` is not"),
    # Refused before a host is started.
    "shard": (
        loses_a_shard,
        400,
        "-00002.safetensors`, which is not in the repository",
    ),
    "layers": (says(num_hidden_layers=10**6), 403, "is too large to be loaded automatically"),
}


def hosts(server: HubServer) -> set[int]:
    """The processes of the server, of which some run models."""
    return {process.pid for process in server.processes() if process.is_running()}


def generate(model: ServedModel, asker: Person) -> httpx.Response:
    headers = {"Authorization": f"Bearer {asker.read_token}", "x-wait-for-model": "1"}
    body = {"inputs": "One", "parameters": {"max_new_tokens": 20, "return_full_text": False}}
    return httpx.post(
        model.url, json=body, headers=headers | {"x-use-cache": "0"}, timeout=_SECONDS
    )


@pytest.mark.parametrize("name", _BROKEN)
def test_a_broken_model_is_refused_and_the_hub_goes_on(
    name: str,
    server: HubServer,
    model: ServedModel,
    written_folder: Path,
    tmp_path: Path,
    alice: Person,
) -> None:
    assert generate(model, alice).json()[0]["generated_text"] == COUNTED
    before = hosts(server)
    folder = shutil.copytree(written_folder, tmp_path / "broken")
    change, status, message = _BROKEN[name]
    change(folder)
    broken = push_model(alice, f"broken-{name}", folder)
    server.gatehouse("model", "set", broken.name, "--runner", "openvino")
    answer = generate(broken, alice)
    assert answer.status_code == status, answer.text
    assert message in answer.json()["error"]
    assert str(server.data_dir) not in answer.json()["error"]
    deadline = time.monotonic() + 20
    while hosts(server) - before:
        assert time.monotonic() < deadline, [psutil.Process(pid).cmdline() for pid in hosts(server)]
        time.sleep(0.1)
    assert generate(model, alice).json()[0]["generated_text"] == COUNTED
