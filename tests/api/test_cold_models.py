"""What callers of a model hear while it is not in memory, over HTTP and with real processes."""

import itertools
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from factories import Hub, Person
from starlette.testclient import TestClient

from gatehouse.inference.lifecycle.launch import SupervisorProcess
from gatehouse.inference.lifecycle.supervisor import SupervisorOptions

CURL = {"user-agent": "curl/8.5.0"}
_numbers = itertools.count(1)
BODY = {"inputs": "the cat", "parameters": {"max_new_tokens": 3}}


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory, migrated_database: Path) -> Iterator[Hub]:
    """A hub as it is by default, whose supervisor has just been started."""
    with TemporaryDirectory(prefix="gh") as folder:
        path = Path(folder) / "supervisor"
        options = SupervisorOptions(str(path), 10**9, idle_seconds=600, num_cores=1)
        hub = Hub(
            tmp_path_factory.mktemp("cold"),
            migrated_database,
            own_app=True,
            supervisor_socket=path,
            cold_model_wait_seconds=0,
            anonymous_requests_per_hour=100_000,
        )
        with (
            SupervisorProcess(options),
            TestClient(hub.app, base_url="http://hub.test") as client,
        ):
            hub.client = client
            yield hub
        hub.close()


@pytest.fixture(scope="module")
def owner(cold: Hub) -> Person:
    return cold.make_user("olga")


@pytest.fixture
def model(cold: Hub, owner: Person, model_files: dict[str, bytes]) -> str:
    """The address of a model that nobody has run yet."""
    name = f"model-{next(_numbers)}"
    weights = {"model.safetensors": model_files["model.safetensors"]}
    others = {name: data for name, data in model_files.items() if name not in weights}
    cold.make_repo(owner, name, files=others, large_files=weights)
    return f"/models/olga/{name}"


def test_caller_that_sleeps_on_503_polls_until_the_model_is_there(cold: Hub, model: str) -> None:
    estimates, moments = [], []
    deadline = time.monotonic() + 60
    while True:
        answer = cold.client.post(model, json=BODY, headers=CURL)
        moments.append(time.monotonic())
        if answer.status_code == 200:
            break
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/json"
        body = answer.json()
        assert body["error"] == f"Model {model.removeprefix('/models/')} is currently loading"
        assert int(answer.headers["retry-after"]) == math.ceil(body["estimated_time"])
        estimates.append(body["estimated_time"])
        assert moments[-1] < deadline
    assert estimates, "it was loaded before anybody could ask"
    assert min(estimates) >= 1.0
    assert estimates == sorted(estimates, reverse=True)
    pauses = [later - earlier for earlier, later in itertools.pairwise(moments[:-1])]
    assert all(pause > 0.9 for pause in pauses)
    usage = cold.client.get(model, headers=CURL)
    assert usage.json()["state"] == "Loaded"


@pytest.mark.parametrize(
    "headers",
    [
        CURL | {"x-wait-for-model": "1"},
        {"user-agent": "unknown/None; hf_hub/2.4.0; python/3.11"},
        {"user-agent": "@huggingface/inference/4.13.30"},
    ],
)
def test_callers_that_wait_are_held(cold: Hub, model: str, headers: dict[str, str]) -> None:
    assert cold.client.post(model, json=BODY, headers=headers).status_code == 200


def test_streams_of_cold_models_are_held(cold: Hub, model: str) -> None:
    answer = cold.client.post(model, json=BODY | {"stream": True}, headers=CURL)
    assert answer.status_code == 200
    lines = [line for line in answer.text.split("\n\n") if line.startswith("data:")]
    assert json.loads(lines[-1].removeprefix("data:"))["generated_text"]


def test_dont_load_model_leaves_it_where_it_is(cold: Hub, model: str) -> None:
    for headers, options in [({"x-load-model": "0"}, {}), ({}, {"dont_load_model": True})]:
        answer = cold.client.post(model, json=BODY | {"options": options}, headers=CURL | headers)
        assert answer.status_code == 503
        assert cold.client.get(model).json()["state"] == "Loadable"


def test_a_503_for_loading_does_not_count_against_the_plan(cold: Hub, model: str) -> None:
    headers = CURL | {"x-load-model": "0"}
    standings = [
        cold.client.post(model, json=BODY, headers=headers).headers["ratelimit"].split(";")[1]
        for _ in range(2)
    ]
    assert standings[0] == standings[1]


def test_model_whose_cache_cannot_fit_is_too_large_at_once(
    cold: Hub, owner: Person, model_files: dict[str, bytes]
) -> None:
    config: dict[str, Any] = json.loads(model_files["config.json"])
    config["max_position_embeddings"] = 16_000_000
    files = {name: data for name, data in model_files.items() if name != "model.safetensors"}
    files["config.json"] = json.dumps(config).encode()
    weights = {"model.safetensors": model_files["model.safetensors"]}
    cold.make_repo(owner, "huge", files=files, large_files=weights)
    for headers in (CURL, CURL | {"x-wait-for-model": "1"}):
        answer = cold.client.post("/models/olga/huge", json=BODY, headers=headers)
        assert answer.status_code == 403
        sentence = "The model olga/huge is too large to be loaded automatically ("
        assert answer.json()["error"].startswith(sentence)
    assert cold.client.get("/models/olga/huge").json()["state"] == "TooBig"


def test_model_that_cannot_be_loaded_is_refused_from_memory(
    cold: Hub, owner: Person, model_files: dict[str, bytes]
) -> None:
    files = {name: data for name, data in model_files.items() if name != "model.safetensors"}
    cold.make_repo(owner, "broken", files=files, large_files={"model.safetensors": b"nonsense"})
    headers = CURL | {"x-wait-for-model": "1"}
    first, second = (
        cold.client.post("/models/olga/broken", json=BODY, headers=headers) for _ in range(2)
    )
    assert first.status_code == second.status_code == 400
    assert first.json() == second.json()
    assert first.json()["error"].startswith("olga/broken cannot be run: ")
    again = cold.client.post("/models/olga/broken", json=BODY, headers=CURL)
    assert again.status_code == 400
