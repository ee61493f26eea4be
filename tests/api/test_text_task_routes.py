"""Summaries, translations and other texts from texts, over HTTP."""

import json
from pathlib import Path
from typing import Any

import pytest
from factories import Hub, Person
from tiny_encoder_decoders import save_tiny_bart, save_tiny_mbart, save_tiny_t5

FRESH = {"x-use-cache": "0"}


def files_of(folder: Path, tag: str | None) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Its files, and its weights."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    if tag is not None:
        files["README.md"] = f"---\npipeline_tag: {tag}\n---\n".encode()
    return files, {"model.safetensors": files.pop("model.safetensors")}


@pytest.fixture(scope="module")
def theo(house: Hub, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """The owner of a T5 that names no task, a T5 for summaries, a BART and an mBART."""
    theo = house.make_user("theo")
    t5 = save_tiny_t5(tmp_path_factory.mktemp("t5"))
    for name, folder, tag in (
        ("plain", t5, None),
        ("summaries", t5, "summarization"),
        ("longer", save_tiny_bart(tmp_path_factory.mktemp("bart")), "summarization"),
        ("tongues", save_tiny_mbart(tmp_path_factory.mktemp("mbart")), "translation"),
    ):
        files, weights = files_of(folder, tag)
        house.make_repo(theo, name, files=files, large_files=weights)
    return theo


@pytest.fixture
def post(house: Hub, theo: Person, olga: Person) -> Any:
    def send(path: str, inputs: Any, status: int = 200, **parameters: Any) -> Any:
        stream = {"stream": parameters.pop("stream")} if "stream" in parameters else {}
        body = {"inputs": inputs, "parameters": parameters} | stream
        answer = house.client.post(path, json=body, headers=FRESH)
        assert answer.status_code == status, answer.text
        return answer if stream.get("stream") else answer.json()

    return send


def test_a_text_gives_another_text_without_itself_in_front(post: Any) -> None:
    (answer,) = post("/models/theo/plain", "the cat", max_new_tokens=6)
    assert answer["generated_text"]
    assert not answer["generated_text"].startswith("the cat")
    bare = post("/models/theo/plain/generate", "the cat", max_new_tokens=6)
    assert bare == answer
    (asked,) = post("/models/theo/plain", "the cat", max_new_tokens=6, return_full_text=True)
    assert asked["generated_text"] == "the cat" + answer["generated_text"]


def test_a_text_is_streamed_token_by_token(post: Any) -> None:
    whole = post("/models/theo/plain/generate", "the cat", max_new_tokens=6, details=True)
    streamed = post("/models/theo/plain", "the cat", max_new_tokens=6, stream=True, details=True)
    lines = [line[5:] for line in streamed.text.splitlines() if line.startswith("data:")]
    events = [json.loads(line) for line in lines]
    assert [event["token"]["id"] for event in events] == [
        token["id"] for token in whole["details"]["tokens"]
    ]
    assert events[-1]["generated_text"] == whole["generated_text"]
    assert events[-1]["details"]["input_length"] == 5
    assert whole["details"]["finish_reason"] == "length"


def test_completions_and_token_ids_work_as_for_others(house: Hub, theo: Person) -> None:
    body = {"model": "theo/plain", "prompt": "the cat", "max_tokens": 5, "temperature": 0}
    answer = house.client.post("/v1/completions", json=body | {"logprobs": 1}).json()
    (choice,) = answer["choices"]
    assert answer["usage"]["prompt_tokens"] == 5
    assert len(choice["logprobs"]["token_logprobs"]) == 5
    echoed = house.client.post("/v1/completions", json=body | {"echo": True, "logprobs": 1})
    assert echoed.status_code == 422
    assert "this one reads it with an encoder" in echoed.text
    suffix = house.client.post("/v1/completions", json=body | {"suffix": "x"})
    assert suffix.status_code == 422
    chat = {"model": "theo/plain", "messages": [{"role": "user", "content": "a"}]}
    refused = house.client.post("/v1/chat/completions", json=chat)
    assert refused.status_code == 422
    assert "template not found" in refused.text


def test_a_summary_is_as_long_as_the_model_says_and_has_its_own_key(post: Any) -> None:
    (answer,) = post("/models/theo/summaries", "the cat sat on the mat")
    assert list(answer) == ["summary_text"]
    prefixed = post(
        "/models/theo/plain/generate",
        "summarize: the cat sat on the mat",
        max_length=12,
        details=True,
    )
    assert prefixed["details"]["generated_tokens"] <= 11
    longer, shorter = (
        post("/models/theo/longer", "the cat", **parameters)[0]["summary_text"]
        for parameters in ({}, {"max_length": 8})
    )
    assert len(shorter) < len(longer)
    assert longer.startswith(shorter[:3])


def test_parameters_stand_alone_or_together(post: Any) -> None:
    sampling = {"do_sample": True, "seed": 5, "temperature": 1.5}
    alone = post("/models/theo/longer", "the cat", **sampling)
    for name in ("generate_parameters", "generate_kwargs"):
        assert post("/models/theo/longer", "the cat", **{name: sampling}) == alone
    assert post("/models/theo/longer", "the cat", generate_parameters={"max_new_tokens": 3}) == (
        post("/models/theo/longer", "the cat", max_new_tokens=3)
    )


def test_several_texts_give_several_answers_in_order(post: Any) -> None:
    texts = ["the cat", "hello world"]
    together = post("/models/theo/longer", texts)
    assert together == [post("/models/theo/longer", text)[0] for text in texts]
    assert post("/models/theo/longer", texts[:1]) == together[:1]


def test_what_is_too_long_is_cut_on_request_only(post: Any) -> None:
    text = "the cat sat on the mat " * 30
    refused = post("/models/theo/longer", text, 422)
    assert "`inputs` must have less than 64 tokens" in refused["error"]
    for truncation in ("only_first", "longest_first", True):
        assert post("/models/theo/longer", text, truncation=truncation)[0]["summary_text"]


def test_languages_are_named_and_checked(post: Any) -> None:
    pair = {"src_lang": "en_XX", "tgt_lang": "de_DE"}
    (german,) = post("/models/theo/tongues", "the cat", max_length=9, **pair)
    assert list(german) == ["translation_text"]
    (french,) = post(
        "/models/theo/tongues", "the cat", max_length=9, src_lang="en_XX", tgt_lang="fr_XX"
    )
    assert german != french
    refused = post("/models/theo/tongues", "the cat", 422, **pair | {"tgt_lang": "klingon"})
    assert "`tgt_lang` must be one of" in refused["error"]


@pytest.mark.parametrize(
    ("inputs", "parameters", "says"),
    [
        ("", {}, "`inputs` cannot be empty"),
        (5, {}, "`inputs` must be a string"),
        ({"text": "a"}, {}, "conversational"),
        ([], {}, "`inputs` cannot be empty"),
        (["a"] * 5, {}, "batch size 5 > maximum batch size 4"),
        ("a", {"num_beams": 4}, "`num_beams` must be 1"),
        ("a", {"generate_parameters": {"num_beams": 4}}, "`num_beams` must be 1"),
        ("a", {"generate_parameters": 4}, "`generate_parameters` must be an object"),
        ("a", {"truncation": "only_second"}, "`truncation` must be"),
        ("a", {"truncation": 1}, "`truncation` must be"),
        ("a", {"truncation": []}, "`truncation` must be"),
        ("a", {"src_lang": 5}, "`src_lang` must be a string"),
        ("a", {"min_length": "x"}, "`min_length` must be an integer"),
        ("a", {"max_length": 1}, "`max_length` must be > 1"),
        ("a", {"max_new_tokens": 65}, "`max_new_tokens` must be <= 64"),
        ("a", {"clean_up_tokenization_spaces": "yes"}, "must be a boolean"),
        ("a", {"decoder_input_details": True}, "`decoder_input_details`"),
    ],
)
def test_bad_bodies_are_refused_with_a_sentence(
    post: Any, inputs: Any, parameters: dict[str, Any], says: str
) -> None:
    status = 400 if says == "conversational" else 422
    assert says in post("/models/theo/longer", inputs, status, **parameters)["error"]


def test_a_task_is_asked_of_models_that_do_it(post: Any) -> None:
    (summary,) = post("/models/theo/plain/pipeline/summarization", "the cat sat on the mat")
    assert post("/models/theo/summaries", "the cat sat on the mat") == [summary]
    translation = post("/pipeline/translation/theo/plain", "the cat", src_lang="en", tgt_lang="de")
    assert list(translation[0]) == ["translation_text"]
    (text,) = post("/pipeline/text2text-generation/theo/plain", "the cat", max_new_tokens=3)
    assert list(text) == ["generated_text"]
    (text,) = post("/pipeline/text-generation/theo/longer", "the cat", max_new_tokens=3)
    assert list(text) == ["generated_text"]
    for name in ("summarization", "translation", "text2text-generation"):
        refused = post(f"/pipeline/{name}/olga/open", "the cat", 400)
        assert refused["error"] == f"{name} is not supported for olga/open"


def test_clients_of_text_generation_get_its_shape_of_any_of_them(post: Any) -> None:
    for body in ({"details": True}, {"stream": False}):
        (answer,) = post("/models/theo/longer", "the cat", max_new_tokens=4, **body)
        assert answer["generated_text"]


def test_models_say_what_they_are(house: Hub, theo: Person) -> None:
    info = house.client.get("/models/theo/longer/info").json()
    assert info["model_pipeline_tag"] == "summarization"
    assert info["is_encoder_decoder"] is True
    assert info["engine"] == "transformers"
    assert info["max_input_tokens"] == 64
    assert info["max_total_tokens"] == 128
    plain = house.client.get("/models/theo/plain/info").json()
    assert plain["model_pipeline_tag"] == "text2text-generation"
    assert house.client.get("/models/olga/open/info").json()["is_encoder_decoder"] is False
    described = house.client.get("/api/models/theo/tongues?expand=inferenceProviderMapping").json()
    assert described["inferenceProviderMapping"]["hf-inference"]["task"] == "translation"
    tasks = house.client.get("/api/tasks").json()
    assert [model["id"] for model in tasks["translation"]["models"]] == ["theo/tongues"]
    assert "theo/plain" in tasks["text2text-generation"]["widgetModels"]
    assert not any("theo/" in name for name in tasks["text-generation"]["widgetModels"])
    assert house.client.get("/status/theo/longer").json()["loaded"] is True
    page = house.client.get("/theo/tongues").text
    assert "client.translation(" in page
    assert "AutoModelForSeq2SeqLM" in page


def test_an_answer_is_kept_and_told_apart_by_its_task(house: Hub, theo: Person) -> None:
    body = {"inputs": "the cat", "parameters": {"do_sample": True}}
    path = "/models/theo/summaries"
    first, second = (house.client.post(path, json=body) for _ in range(2))
    assert [first.headers["x-cache"], second.headers["x-cache"]] == ["MISS", "HIT"]
    assert first.content == second.content
    assert second.headers["x-compute-characters"] == "7"
    text = house.client.post(f"{path}/generate", json=body)
    assert "generated_text" in text.json()
