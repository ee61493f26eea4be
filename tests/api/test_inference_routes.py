"""The inference routes over HTTP: a whole hub, a real supervisor, a real tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest
from factories import Hub, Person

PRO_MODEL = "olga/powerful"


def generate(house: Hub, body: Any, path: str = "/models/olga/open", **headers: str) -> Any:
    return house.client.post(path, json=body, headers=headers)


def events(text: str) -> list[dict[str, Any]]:
    lines = [line for line in text.split("\n\n") if line and not line.startswith(":")]
    assert all(line.startswith("data: {") for line in lines)
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@pytest.mark.usefixtures("olga")
class TestOpenModel:
    def test_bare_inputs_give_the_prompt_and_a_continuation(self, house: Hub) -> None:
        answer = generate(house, {"inputs": "the cat"})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        (item,) = answer.json()
        assert list(item) == ["generated_text"]
        assert item["generated_text"].startswith("the cat")
        assert len(item["generated_text"]) > len("the cat")
        assert answer.headers["x-generated-tokens"] == "20"
        assert answer.headers["x-compute-characters"] == "7"
        assert answer.headers["ratelimit"].startswith('"inference";r=')

    def test_curl_without_a_label_is_json(self, house: Hub) -> None:
        content = b'{"inputs": "the cat", "parameters": {"max_new_tokens": 3}}'
        label = {"content-type": "application/x-www-form-urlencoded"}
        answer = house.client.post("/models/olga/open", content=content, headers=label)
        assert answer.headers["x-generated-tokens"] == "3"

    def test_bare_texts_are_inputs(self, house: Hub) -> None:
        for content in (b"the cat", b'"the cat"', b'{"text": "the cat"}'):
            answer = house.client.post("/models/olga/open", content=content)
            assert answer.json()[0]["generated_text"].startswith("the cat")

    def test_hub_clients_see_the_continuation_only(self, house: Hub) -> None:
        agent = "unknown/None; hf_hub/2.4.0; python/3.11"
        answer = house.client.post(
            "/models/olga/open", json={"inputs": "the cat"}, headers={"user-agent": agent}
        )
        assert not answer.json()[0]["generated_text"].startswith("the cat")

    @pytest.mark.parametrize(
        "path", ["/models/olga/open/", "/hf-inference/models/olga/open", "/models/OLGA/Open"]
    )
    def test_other_ways_to_write_the_address(self, house: Hub, path: str) -> None:
        assert generate(house, {"inputs": "the cat"}, path).status_code == 200

    def test_generate_gives_an_object_and_the_continuation(self, house: Hub) -> None:
        body = {"inputs": "the cat", "parameters": {"max_new_tokens": 4, "details": True}}
        answer = generate(house, body, "/models/olga/open/generate").json()
        assert answer["details"]["generated_tokens"] == 4
        assert not answer["generated_text"].startswith("the cat")

    def test_stream_is_one_event_a_token(self, house: Hub) -> None:
        body = {"inputs": "the cat", "parameters": {"max_new_tokens": 4}, "stream": True}
        answer = generate(house, body)
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["cache-control"] == "no-cache"
        assert "content-length" not in answer.headers
        assert [event["index"] for event in events(answer.text)] == [1, 2, 3, 4]
        whole = generate(house, {**body, "stream": False}).json()[0]["generated_text"]
        assert events(answer.text)[-1]["generated_text"] == whole
        other = generate(house, {**body, "stream": False}, "/models/olga/open/generate_stream")
        assert len(events(other.text)) == 4

    def test_sampled_answer_repeats_until_the_cache_is_passed_by(self, house: Hub) -> None:
        body = {"inputs": "hello", "parameters": {"do_sample": True, "temperature": 2.0}}
        first, second = generate(house, body), generate(house, body)
        assert first.headers["x-cache"] == "MISS"
        assert second.headers["x-cache"] == "HIT"
        assert second.headers["x-compute-type"] == "cache"
        assert first.content == second.content
        fresh = house.client.post("/models/olga/open", json=body, headers={"x-use-cache": "0"})
        assert fresh.headers["x-cache"] == "BYPASS"
        assert fresh.content != first.content
        assert generate(house, body).content == fresh.content
        again = generate(house, {**body, "options": {"use_cache": False}})
        assert again.headers["x-cache"] == "BYPASS"

    @pytest.mark.parametrize("is_stream", [False, True])
    def test_refusals_have_the_form_of_tgi(self, house: Hub, *, is_stream: bool) -> None:
        for parameters, sentence in [
            ({"top_p": 2}, "`top_p` must be > 0.0 and < 1.0"),
            ({"max_new_tokens": 300}, "`inputs` tokens + `max_new_tokens` must be <= 128. "),
        ]:
            body = {"inputs": "the cat", "parameters": parameters, "stream": is_stream}
            answer = generate(house, body)
            assert answer.status_code == 422
            assert answer.json()["error_type"] == "validation"
            assert answer.json()["error"].startswith(f"Input validation error: {sentence}")

    @pytest.mark.parametrize(
        ("content", "label", "status"),
        [
            (b"", "", 400),
            (b"{}", "", 400),
            (b'{"inputs": "a"', "", 400),
            (b"not json", "application/json", 400),
            (b"3", "application/json", 400),
            (b"[" * 100_000, "", 400),
            (b'{"inputs": NaN}', "", 400),
            (b"\xff\xfe", "", 400),
            (b'{"inputs": {"text": "a"}}', "", 400),
            (b'{"inputs": {"x": "a"}}', "", 422),
            (b'{"inputs": "' + b"a" * 2_100_000 + b'"}', "", 413),
        ],
    )
    def test_bad_bodies_are_refused_with_a_sentence(
        self, house: Hub, content: bytes, label: str, status: int
    ) -> None:
        headers = {"content-type": label} if label else {}
        answer = house.client.post("/models/olga/open", content=content, headers=headers)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/json"
        assert isinstance(answer.json()["error"], str)

    def test_chat_goes_through_the_template(self, house: Hub) -> None:
        body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "model": "tgi"}
        path = "/models/olga/open/v1/chat/completions"
        answer = generate(house, body, path).json()
        assert answer["model"] == "olga/open"
        assert answer["usage"]["completion_tokens"] == 4
        stream = generate(house, {**body, "stream": True}, path)
        *chunks, last, nothing = stream.text.split("\n\n")
        assert (last, nothing) == ("data: [DONE]", "")
        assert len(chunks) >= 2
        old = house.client.post(
            path, json={**body, "stream": True}, headers={"user-agent": "hf_hub/0.22.2"}
        )
        assert "[DONE]" not in old.text
        assert generate(house, body).json()["object"] == "chat.completion"

    def test_template_error_is_clean(self, house: Hub) -> None:
        messages = [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]
        answer = generate(house, {"messages": messages}, "/models/olga/open/v1/chat/completions")
        assert answer.status_code == 422
        assert answer.json()["error_type"] == "template_error"

    def test_endpoint_describes_itself(self, house: Hub) -> None:
        info = house.client.get("/models/olga/open/info").json()
        assert info["model_id"] == "olga/open"
        assert info["max_total_tokens"] == 128
        assert house.client.get("/models/olga/open/health").status_code == 200
        for path in ("/models/olga/open", "/status/olga/open"):
            assert house.client.get(path).json() == {
                "loaded": True,
                "state": "Loaded",
                "compute_type": "cpu",
                "framework": "text-generation-inference",
            }

    def test_what_is_not_built_says_so(self, house: Hub) -> None:
        for path in ("/v1/images/generations", "/v1/audio/speech"):
            answer = generate(house, {}, path)
            assert answer.status_code == 501
            assert answer.json()["error"]


def test_model_that_is_not_loaded_is_not_loaded_by_asking(house: Hub, olga: Person) -> None:
    owner = olga.read
    path = "/models/olga/idle"
    assert house.client.get(path, headers=owner).json()["state"] == "Loadable"
    body = {"inputs": "a", "options": {"dont_load_model": True}}
    answer = house.client.post(path, json=body, headers=owner)
    assert answer.status_code == 503
    assert answer.json()["estimated_time"] > 0
    assert answer.headers["retry-after"]
    assert house.client.get(path, headers=owner).json()["state"] == "Loadable"


def test_gate_holds_for_every_way_of_running(house: Hub, olga: Person, mallory: Person) -> None:
    paths = ["", "/generate", "/generate_stream", "/v1/chat/completions"]
    for path in [f"/models/olga/gated{rest}" for rest in paths]:
        body = {"inputs": "a", "messages": []}
        assert house.client.post(path, json=body).status_code == 401
        refused = house.client.post(path, json=body, headers=mallory.read)
        assert refused.status_code == 403
        assert refused.headers["x-error-code"] == "GatedRepo"
    body = {"inputs": "the cat"}
    path = "/models/olga/gated"
    assert house.client.post(path, json=body, headers=olga.read).status_code == 200
    # The answer is in the cache now; the gate is still asked first.
    assert house.client.post(path, json=body, headers=mallory.read).status_code == 403
    assert house.client.post(path, json=body, headers=olga.read).headers["x-cache"] == "HIT"


def test_curated_model_is_for_paying_users(house: Hub, olga: Person) -> None:
    answer = house.client.post(f"/models/{PRO_MODEL}", json={"inputs": "a"}, headers=olga.read)
    assert answer.status_code == 403
    assert answer.json()["error"].startswith("Model requires a Pro subscription; check out http")


def test_models_that_cannot_be_run_say_why(house: Hub, olga: Person) -> None:
    for name, sentence in [
        ("masks", "fill-mask is not supported for olga/masks"),
        ("pickled", "Convert them to safetensors"),
    ]:
        answer = house.client.post(f"/models/olga/{name}", json={"inputs": "a"}, headers=olga.read)
        assert answer.status_code == 400
        assert sentence in answer.json()["error"]


def test_requests_over_the_plan_are_refused_with_the_window(
    tmp_path: Path, migrated_database: Path
) -> None:
    hub = Hub(tmp_path / "small", migrated_database, free_requests_per_hour=1)
    try:
        person = hub.make_user("pat")
        hub.make_repo(person, "empty", files={"config.json": b"{}"})
        first, second = (
            hub.client.post("/models/pat/empty", json={"inputs": "a"}, headers=person.read)
            for _ in range(2)
        )
        assert first.status_code == 400
        assert second.status_code == 429
        assert second.headers["ratelimit"].startswith('"inference";r=0;t=')
        assert int(second.headers["retry-after"]) > 0
        assert "subscribe to a plan" in second.json()["error"]
    finally:
        hub.close()


def test_without_a_supervisor_the_answer_is_503(hub: Hub, model_files: dict[str, bytes]) -> None:
    person = hub.make_user("pat")
    hub.make_repo(person, "tiny", files=model_files)
    answer = hub.client.post("/models/pat/tiny", json={"inputs": "a"})
    assert answer.status_code == 503
    assert "supervisor" in answer.json()["error"]
