"""Vectors over HTTP: OpenAI's embeddings, the two tasks of sentence models, and their gate."""

import base64
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from factories import Hub, Person
from tiny_encoders import HIDDEN_SIZE, add_modules, save_tiny_encoder

from gatehouse.repos.repository import Gate

Vector = list[float]
SIMILAR = {"inputs": {"source_sentence": "a", "sentences": ["b"]}}


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="session")
def elsa(house: Hub, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """The owner of a sentence model, the same one gated, and a plain encoder."""
    elsa = house.make_user("elsa")
    plain = files_of(save_tiny_encoder(tmp_path_factory.mktemp("encoder")))
    folder = save_tiny_encoder(tmp_path_factory.mktemp("sentences"))
    sentences = files_of(add_modules(folder, {"pooling_mode_mean_tokens": True}, "Normalize"))
    for name, files, gate in (
        ("plain", plain, Gate.OPEN),
        ("sentences", sentences, Gate.OPEN),
        ("closed", sentences, Gate.MANUAL),
    ):
        weights = {"model.safetensors": files["model.safetensors"]}
        others = {path: data for path, data in files.items() if path not in weights}
        house.make_repo(elsa, name, files=others, large_files=weights, gate=gate)
    return elsa


def post(house: Hub, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
    return house.client.post(path, json=body, headers=headers or {})


def cosine(one: Vector, other: Vector) -> float:
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return dot / math.hypot(*one) / math.hypot(*other)


@pytest.mark.usefixtures("elsa")
class TestSentenceModel:
    def test_text_gives_a_vector_and_a_list_gives_several(self, house: Hub) -> None:
        one = post(house, "/models/elsa/sentences", {"inputs": "the cat"}).json()
        assert len(one) == HIDDEN_SIZE
        assert math.hypot(*one) == pytest.approx(1, abs=1e-5)
        path = "/models/elsa/sentences/pipeline/feature-extraction"
        two = post(house, path, {"inputs": ["the cat", "hello"]}).json()
        assert two[0] == pytest.approx(one, abs=1e-5)
        assert len(two) == 2

    def test_similarity_is_the_cosine(self, house: Hub) -> None:
        inputs = {"source_sentence": "the cat", "sentences": ["the cat", "a dog ran"]}
        for path, body in (
            ("/models/elsa/sentences", {"inputs": inputs}),
            ("/models/elsa/sentences", inputs),
            ("/models/elsa/sentences/pipeline/sentence-similarity", {"inputs": inputs}),
            ("/pipeline/sentence-similarity/elsa/sentences", {"inputs": inputs}),
        ):
            same, other = post(house, path, body).json()
            assert same == pytest.approx(1, abs=1e-5)
        vectors = post(house, "/models/elsa/sentences", {"inputs": ["the cat", "a dog ran"]}).json()
        assert other == pytest.approx(cosine(*vectors), abs=1e-5)

    def test_base64_and_floats_are_the_same_vectors(self, house: Hub) -> None:
        body = {"model": "elsa/sentences", "input": ["the cat", "hello"]}
        floats = post(house, "/v1/embeddings", body).json()
        assert floats["object"] == "list"
        assert floats["model"] == "elsa/sentences"
        assert [item["index"] for item in floats["data"]] == [0, 1]
        coded = post(house, "/v1/embeddings", {**body, "encoding_format": "base64"}).json()
        for item, other in zip(floats["data"], coded["data"], strict=True):
            data = base64.b64decode(other["embedding"])
            assert list(struct.unpack(f"<{len(data) // 4}f", data)) == item["embedding"]
        assert coded["usage"] == floats["usage"]
        assert floats["usage"]["prompt_tokens"] == floats["usage"]["total_tokens"] > 4

    def test_dimensions_are_cut_and_have_the_length_one(self, house: Hub) -> None:
        body = {"input": "the cat"}
        path = "/models/elsa/sentences/v1/embeddings"
        whole = post(house, path, body).json()["data"][0]["embedding"]
        cut = post(house, path, {**body, "dimensions": 5}).json()["data"][0]["embedding"]
        assert len(cut) == 5
        assert math.hypot(*cut) == pytest.approx(1, abs=1e-5)
        assert cosine(cut, whole[:5]) == pytest.approx(1, abs=1e-5)
        refused = post(house, path, {**body, "dimensions": 1000})
        assert refused.status_code == 422
        assert f"`dimensions` must be <= {HIDDEN_SIZE}" in refused.json()["error"]

    def test_token_ids_are_run_as_they_are(self, house: Hub) -> None:
        path = "/models/elsa/sentences/v1/embeddings"
        for given, number in (([1, 5, 6, 2], 1), ([[1, 5, 2], [1, 6, 2]], 2)):
            answer = post(house, path, {"input": given}).json()
            assert len(answer["data"]) == number

    def test_answers_are_kept_and_say_what_they_took(self, house: Hub) -> None:
        body = {"inputs": ["hill", "mat"]}
        first, second = (post(house, "/models/elsa/sentences", body) for _ in range(2))
        assert first.headers["x-cache"] == "MISS"
        assert first.headers["x-compute-characters"] == "7"
        assert int(first.headers["x-prompt-tokens"]) > 2
        assert second.headers["x-cache"] == "HIT"
        assert second.content == first.content

    def test_lists_name_it_under_both_tasks(self, house: Hub) -> None:
        tasks = house.client.get("/api/tasks").json()
        for task in ("feature-extraction", "sentence-similarity"):
            assert "elsa/sentences" in tasks[task]["widgetModels"]
        assert "elsa/sentences" not in str(tasks.get("text-generation"))
        served = house.client.get("/framework/sentence-transformers").json()
        assert "elsa/sentences" in {model["model_id"] for model in served}
        info = house.client.get("/api/models/elsa/sentences?expand=inferenceProviderMapping").json()
        entry = info["inferenceProviderMapping"]["hf-inference"]
        assert entry == {
            "status": "live",
            "providerId": "elsa/sentences",
            "task": "sentence-similarity",
        }
        tags = house.client.get("/api/models/elsa/sentences").json()["tags"]
        assert {"sentence-similarity", "feature-extraction", "sentence-transformers"} <= set(tags)
        status = house.client.get("/status/elsa/sentences").json()
        assert status["framework"] == "sentence-transformers"
        info = house.client.get("/models/elsa/sentences/info").json()
        assert info["model_pipeline_tag"] == "feature-extraction"


@pytest.mark.usefixtures("elsa")
def test_plain_encoder_answers_a_level_deeper(house: Hub) -> None:
    one = post(house, "/models/elsa/plain", {"inputs": "the cat"}).json()
    assert (len(one), len(one[0])) == (1, HIDDEN_SIZE)
    two = post(house, "/models/elsa/plain", {"inputs": ["the cat", "hello"]}).json()
    assert [len(item) for item in two] == [1, 1]


@pytest.mark.usefixtures("elsa", "olga")
def test_models_are_not_run_for_what_they_do_not_do(house: Hub) -> None:
    for path, body, task in (
        ("/models/olga/open/v1/embeddings", {"input": "a"}, "feature-extraction"),
        ("/models/olga/open/pipeline/sentence-similarity", SIMILAR, "sentence-similarity"),
        ("/models/elsa/sentences/v1/completions", {"prompt": "a"}, "text-generation"),
        ("/models/elsa/sentences/generate", {"inputs": "a"}, "text-generation"),
        ("/models/elsa/sentences/pipeline/fill-mask", {"inputs": "a"}, "fill-mask"),
    ):
        answer = post(house, path, body)
        assert answer.status_code == 400
        assert answer.json()["error"].startswith(f"{task} is not supported for ")


def test_gate_holds_for_vectors(house: Hub, elsa: Person, mallory: Person) -> None:
    for path, body in (
        ("/v1/embeddings", {"model": "elsa/closed", "input": "a"}),
        ("/models/elsa/closed/v1/embeddings", {"input": "a"}),
        ("/models/elsa/closed", {"inputs": "a"}),
        ("/pipeline/feature-extraction/elsa/closed", {"inputs": "a"}),
    ):
        assert post(house, path, body, mallory.read).status_code == 403
        assert post(house, path, body, elsa.read).status_code == 200


@pytest.mark.usefixtures("elsa")
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/models/elsa/sentences", {"inputs": 3}),
        ("/models/elsa/sentences", {"inputs": []}),
        ("/models/elsa/sentences", {"inputs": ["a", 1]}),
        ("/models/elsa/sentences", {"inputs": ["a", ""]}),
        ("/models/elsa/sentences", {"inputs": "a", "normalize": "yes"}),
        ("/models/elsa/sentences", {"inputs": "a", "prompt_name": 3}),
        ("/models/elsa/sentences", {"inputs": "a", "prompt_name": "nothing"}),
        ("/models/elsa/sentences", {"inputs": "a", "truncation_direction": "up"}),
        ("/models/elsa/sentences", {"inputs": "a", "parameters": []}),
        ("/models/elsa/sentences", {"inputs": "x " * 500}),
        ("/models/elsa/sentences", {"inputs": {"source_sentence": "a"}}),
        ("/models/elsa/sentences", {"inputs": {"source_sentence": "a", "sentences": [1]}}),
        ("/models/elsa/sentences/v1/embeddings", {}),
        ("/models/elsa/sentences/v1/embeddings", {"input": []}),
        ("/models/elsa/sentences/v1/embeddings", {"input": [[]]}),
        ("/models/elsa/sentences/v1/embeddings", {"input": [1, "a"]}),
        ("/models/elsa/sentences/v1/embeddings", {"input": [10**6]}),
        ("/models/elsa/sentences/v1/embeddings", {"input": "a", "encoding_format": "hex"}),
        ("/models/elsa/sentences/v1/embeddings", {"input": "a", "dimensions": 0}),
        ("/models/elsa/sentences/v1/embeddings", {"input": ["a"] * 2049}),
    ],
)
def test_wrong_bodies_are_refused(house: Hub, path: str, body: Any) -> None:
    answer = post(house, path, body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["error_type"] == "validation"


@pytest.mark.usefixtures("elsa")
def test_long_text_is_cut_if_asked(house: Hub) -> None:
    body = {"inputs": "x " * 500, "truncate": True, "parameters": {"normalize": False}}
    assert len(post(house, "/models/elsa/sentences", body).json()) == HIDDEN_SIZE
