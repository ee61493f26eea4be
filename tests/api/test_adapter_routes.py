"""Adapters by their repository's name: two gates, the cache, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog.testing
from factories import Hub, Person
from low_rank_adapters import draw_matrices, save_adapter

from gatehouse.engines.base import EngineOptions, RunnerName
from gatehouse.inference.lifecycle.model_options import ModelOptions
from gatehouse.observability.audit import OPERATOR
from gatehouse.repos.commits import AddFile, AddLargeFile
from gatehouse.repos.repository import Gate, Repository

OPEN = "/models/olga/open"
WEIGHTS = "adapter_model.safetensors"
TARGETS = ("q_proj", "down_proj")


def adapter_files(
    folder: Path, model_files: dict[str, bytes], *, seed: int = 0
) -> dict[str, bytes]:
    """The two files of an adapter for the model of these files."""
    base = folder / "base"
    base.mkdir()
    for name, data in model_files.items():
        (base / name).write_bytes(data)
    made = save_adapter(folder / "adapter", draw_matrices(base, 4, TARGETS, seed=seed))
    return {path.name: path.read_bytes() for path in Path(made.folder).iterdir()}


def make_adapter(
    hub: Hub, owner: Person, name: str, files: dict[str, bytes], **kind: Any
) -> Repository:
    small = {name: data for name, data in files.items() if name != WEIGHTS}
    large = {name: data for name, data in files.items() if name == WEIGHTS}
    return hub.make_repo(owner, name, files=small, large_files=large, **kind)


@pytest.fixture(scope="module")
def files(
    tmp_path_factory: pytest.TempPathFactory, model_files: dict[str, bytes]
) -> dict[str, bytes]:
    return adapter_files(tmp_path_factory.mktemp("made"), model_files)


@pytest.fixture(scope="module")
def adapter(house: Hub, olga: Person, files: dict[str, bytes]) -> Repository:
    return make_adapter(house, olga, "pirate", files)


def ask(
    hub: Hub, adapter_id: Any, path: str = OPEN, person: Person | None = None, **body: Any
) -> Any:
    parameters = {"max_new_tokens": 12, "return_full_text": False, "adapter_id": adapter_id}
    headers = person.read if person else {}
    return hub.client.post(
        path, json={"inputs": "the cat", "parameters": parameters} | body, headers=headers
    )


@pytest.mark.usefixtures("adapter")
class TestOpenAdapter:
    def test_answer_is_another_on_every_surface(self, house: Hub) -> None:
        plain = ask(house, None).json()[0]["generated_text"]
        adapted = ask(house, "olga/pirate")
        assert adapted.status_code == 200, adapted.text
        text = adapted.json()[0]["generated_text"]
        assert text != plain
        whole = ask(house, "olga/pirate", f"{OPEN}/generate").json()["generated_text"]
        assert whole == text
        stream = ask(house, "olga/pirate", f"{OPEN}/generate_stream").text
        last = json.loads(stream.strip().split("\n\n")[-1].removeprefix("data:"))
        assert last["generated_text"] == text
        body = {"prompt": "the cat", "max_tokens": 12, "temperature": 0}
        completion = house.client.post(
            "/v1/completions", json=body | {"model": "olga/open", "adapter_id": "olga/pirate"}
        )
        assert completion.json()["choices"][0]["text"] == text
        assert ask(house, None).json()[0]["generated_text"] == plain

    def test_chats_and_responses_take_one_too(self, house: Hub) -> None:
        messages = [{"role": "user", "content": "hello"}]
        bodies: dict[str, dict[str, Any]] = {
            "chat/completions": {"messages": messages, "max_tokens": 8, "temperature": 0},
            "responses": {"input": "hello", "max_output_tokens": 8, "temperature": 0},
        }
        for path, body in bodies.items():
            given = {"model": "olga/open", **body}
            plain = house.client.post(f"/v1/{path}", json=given)
            adapted = house.client.post(f"/v1/{path}", json={**given, "adapter_id": "olga/pirate"})
            assert adapted.status_code == 200, adapted.text
            assert _text(adapted.json()) != _text(plain.json())

    def test_answers_are_kept_by_adapter_and_commit(
        self, house: Hub, olga: Person, model_files: dict[str, bytes], tmp_path: Path
    ) -> None:
        files = adapter_files(tmp_path, model_files, seed=1)
        repository = make_adapter(house, olga, "moving-voice", files)
        first = house.head(repository)
        assert [ask(house, "olga/moving-voice").headers["x-cache"] for _ in range(2)] == [
            "MISS",
            "HIT",
        ]
        before = ask(house, "olga/moving-voice").json()
        other = adapter_files(_made(tmp_path / "other"), model_files, seed=2)[WEIGHTS]
        sha256 = house.put_object(repository, other)
        house.commit(olga, repository, [AddLargeFile(WEIGHTS, sha256, len(other))])
        moved = ask(house, "olga/moving-voice")
        assert (moved.headers["x-cache"], moved.json() != before) == ("MISS", True)
        pinned = ask(house, f"olga/moving-voice@{first}")
        assert pinned.json() == before
        assert ask(house, "olga/moving-voice@no-such-branch").status_code == 404

    def test_log_line_names_the_adapter(self, house: Hub) -> None:
        with structlog.testing.capture_logs() as lines:
            ask(house, "olga/pirate", options={"use_cache": False})
        (line,) = (line for line in lines if line["event"] == "inference")
        assert (line["model"], line["adapter"]) == ("olga/open", "olga/pirate")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _text(answer: dict[str, Any]) -> str:
    if "choices" in answer:
        return str(answer["choices"][0]["message"]["content"])
    return str(answer["output"][0]["content"][0]["text"])


def test_gate_of_the_adapter_is_asked_as_that_of_the_model(
    house: Hub, olga: Person, mallory: Person, files: dict[str, bytes]
) -> None:
    make_adapter(house, olga, "whisper", files, private=True)
    gated = make_adapter(house, olga, "guarded", files, gate=Gate.MANUAL)
    nobody, nothing = ask(house, "olga/whisper"), ask(house, "olga/nothing")
    assert (nobody.status_code, nothing.status_code) == (404, 404)
    assert nobody.text.replace("whisper", "nothing") == nothing.text
    assert ask(house, "olga/whisper", person=mallory).status_code == 404
    assert ask(house, "olga/whisper", person=olga).status_code == 200
    # Somebody who may see it asked before: what is kept is behind the same gate.
    assert ask(house, "olga/whisper", person=mallory).status_code == 404
    assert ask(house, "olga/guarded").status_code == 401
    assert ask(house, "olga/guarded", person=mallory).status_code == 403
    assert ask(house, "olga/guarded", person=olga).status_code == 200
    house.accept(olga, gated, mallory)
    assert ask(house, "olga/guarded", person=mallory).status_code == 200
    inputs = {"inputs": "a", "prompt": "a", "input": "a"}
    body: dict[str, Any] = inputs | {
        "messages": [{"role": "user", "content": "a"}],
        "adapter_id": "olga/whisper",
    }
    body["parameters"] = {"adapter_id": "olga/whisper"}
    for path in ("/generate_stream", "/v1/completions", "/v1/chat/completions", "/v1/responses"):
        # It would name a kept prompt there, and none is kept.
        sent = body | ({"prompt": None} if path == "/v1/responses" else {})
        answer = house.client.post(OPEN + path, json=sent, headers=mallory.read)
        assert answer.status_code == 404, path


def test_gate_of_the_model_is_not_opened_by_an_adapter_of_ones_own(
    house: Hub, mallory: Person, files: dict[str, bytes]
) -> None:
    make_adapter(house, mallory, "my-voice", files)
    answer = ask(house, "mallory/my-voice", "/models/olga/gated", mallory)
    assert answer.status_code == 403


@pytest.mark.parametrize("value", ["x", 3, ["a/b"], {"a": 1}, True, ""])
def test_names_that_are_none_are_refused(house: Hub, olga: Person, value: Any) -> None:
    answer = ask(house, value, person=olga)
    assert answer.status_code == 422
    assert answer.json()["error_type"] == "validation"
    assert "`adapter_id` must name a repository" in answer.json()["error"]


def test_repositories_that_hold_no_readable_adapter_are_refused(
    house: Hub, olga: Person, files: dict[str, bytes]
) -> None:
    config = files["adapter_config.json"]
    make_adapter(house, olga, "no-voice", {"README.md": b"# None"})
    make_adapter(house, olga, "bare-voice", {"adapter_config.json": config})
    pickled = {"adapter_config.json": config, "adapter_model.bin": b"\x80\x02."}
    make_adapter(house, olga, "pickled-voice", pickled)
    huge = make_adapter(house, olga, "huge-voice", files)
    house.commit(olga, huge, [AddFile("adapter_config.json", b" " * (2**20 + 1))])
    for name, sentence in [
        ("no-voice", "is no adapter: it has no `adapter_config.json`"),
        ("open", "is no adapter: it has no `adapter_config.json`"),
        ("bare-voice", "has no `adapter_model.safetensors`"),
        (
            "pickled-voice",
            "only as `adapter_model.bin`, a format that can hold code and is never loaded",
        ),
        ("huge-voice", "is too large for an adapter"),
    ]:
        answer = ask(house, f"olga/{name}", person=olga)
        assert (answer.status_code, answer.json()["error_type"]) == (422, "validation")
        assert sentence in answer.json()["error"]


def test_adapter_of_another_base_is_refused_and_the_host_goes_on(
    house: Hub, olga: Person, files: dict[str, bytes], adapter: Repository, tmp_path: Path
) -> None:
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    shapes = {"A": (4, 8), "B": (8, 4)}
    wrong = {f"{name}{side}.weight": np.zeros(shape, np.float32) for side, shape in shapes.items()}
    made = save_adapter(tmp_path / "other", wrong)
    other = {path.name: path.read_bytes() for path in Path(made.folder).iterdir()}
    make_adapter(house, olga, "foreign", other)
    answer = ask(house, "olga/foreign", person=olga)
    assert answer.status_code == 422
    assert "is it an adapter of another base model?" in answer.json()["error"]
    assert ask(house, str(adapter.repo_id), person=olga).status_code == 200


def test_adapter_asked_for_as_a_model_says_how_it_is_used(
    house: Hub, olga: Person, adapter: Repository
) -> None:
    answer = house.client.post(
        f"/models/{adapter.repo_id}", json={"inputs": "a"}, headers=olga.read
    )
    assert answer.status_code == 400
    assert "Ask for its base model" in answer.json()["error"]


def test_adapters_are_in_no_list_of_models(
    house: Hub, olga: Person, files: dict[str, bytes]
) -> None:
    card = b"---\npipeline_tag: text-generation\n---\n"
    make_adapter(house, olga, "carded", {**files, "README.md": card})
    listed = house.client.get("/v1/models", headers=olga.read).json()["data"]
    names = {model["id"] for model in listed}
    assert "olga/open" in names
    assert "olga/carded" not in names


def test_model_of_another_runner_takes_no_adapter(
    house: Hub, olga: Person, adapter: Repository, model_files: dict[str, bytes]
) -> None:
    weights = {"model.safetensors": model_files["model.safetensors"]}
    others = {name: data for name, data in model_files.items() if name not in weights}
    slow = house.make_repo(olga, "slow-runner", files=others, large_files=weights)
    options = EngineOptions(runner=RunnerName.TRANSFORMERS)
    ModelOptions(house.database, house.clock).set(slow, options, by=OPERATOR)
    answer = ask(house, str(adapter.repo_id), "/models/olga/slow-runner", olga)
    assert answer.status_code == 422
    assert "`adapter_id` needs the runner `openvino`" in answer.json()["error"]
    assert answer.json()["error"].endswith("this model is run by `transformers`")
