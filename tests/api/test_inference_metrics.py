"""Metrics and log lines over HTTP: who may read them, and what is never in them."""

from typing import Any

import pytest
from factories import Hub, Person
from structlog.testing import capture_logs

from gatehouse.identity.permissions import TokenRole

SECRET = "xyzzy-prompt"
BODY = {"inputs": SECRET, "parameters": {"max_new_tokens": 3}}


@pytest.fixture(scope="module")
def admin(house: Hub) -> dict[str, str]:
    user = house.services.users.create(
        "keeper", "keeper@example.com", "correct horse battery", is_admin=True
    )
    return house.make_token(user, TokenRole.READ)


def counts(house: Hub, admin: dict[str, str], path: str = "/metrics") -> dict[str, float]:
    answer = house.client.get(path, headers=admin)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def inference_lines(house: Hub, person: Person, path: str, body: Any) -> list[Any]:
    with capture_logs() as lines:
        house.client.post(path, json=body, headers=person.read)
    return [line for line in lines if line["event"] == "inference"]


def test_requests_are_counted_under_their_model(
    house: Hub, olga: Person, admin: dict[str, str]
) -> None:
    before = counts(house, admin)
    headers = olga.read | {"x-use-cache": "0"}
    stream = BODY | {"stream": True}
    house.client.post("/models/olga/open", json=BODY, headers=headers)
    house.client.post("/models/olga/open", json=stream, headers=headers)
    house.client.post("/models/olga/open", json=BODY, headers=olga.read)
    bad = {"inputs": "a", "parameters": {"top_p": 7}}
    house.client.post("/models/olga/open", json=bad, headers=headers)
    after = counts(house, admin)

    def gained(sample: str) -> float:
        return after.get(sample, 0.0) - before.get(sample, 0.0)

    assert gained('tgi_request_count{model="olga/open"}') == 4
    assert gained('tgi_request_success{model="olga/open"}') == 3
    assert gained('tgi_request_failure{err="validation",model="olga/open"}') == 1
    assert gained('gatehouse_cached_requests_total{model="olga/open"}') == 1
    assert gained('tgi_request_generated_tokens_sum{model="olga/open"}') == 6
    assert after['tgi_queue_size{model="olga/open"}'] == 0
    assert after['tgi_batch_current_size{model="olga/open"}'] == 0


def test_supervisor_and_hub_are_told_of_too(
    house: Hub, olga: Person, admin: dict[str, str]
) -> None:
    house.client.post("/models/olga/open", json=BODY, headers=olga.read)
    house.client.get("/api/models/olga%2Fopen")
    found = counts(house, admin)
    assert found["gatehouse_supervisor_up"] == 1
    assert found["gatehouse_model_loads_total"] >= 1
    assert found["gatehouse_response_cache_entries"] >= 1
    version = next(name for name in found if name.startswith("gatehouse_model_loaded"))
    assert 'version="' in version
    loaded = [v for name, v in found.items() if name.startswith("gatehouse_model_resident_bytes")]
    assert max(loaded) > 10**6
    routes = [name for name in found if name.startswith("gatehouse_http_requests_total")]
    assert any('route="/models/{id}"' in name and 'method="POST"' in name for name in routes)
    assert not any("olga" in name for name in routes)


def test_metrics_are_for_administrators(house: Hub, olga: Person) -> None:
    assert house.client.get("/metrics").status_code == 401
    assert house.client.get("/metrics", headers=olga.read).status_code == 403


def test_a_models_metrics_are_for_those_who_may_run_it(
    house: Hub, olga: Person, mallory: Person, admin: dict[str, str]
) -> None:
    house.client.post("/models/olga/gated", json=BODY, headers=olga.read)
    path = "/models/olga/gated/metrics"
    found = counts(house, olga.read, path)
    assert found['tgi_request_count{model="olga/gated"}'] >= 1
    assert all('model="olga/gated"' in name for name in found)
    assert house.client.get(path, headers=mallory.read).status_code == 403
    assert house.client.get(path).status_code == 401


def test_every_inference_request_has_one_log_line(house: Hub, olga: Person) -> None:
    body = BODY | {"options": {"use_cache": False}}
    (line,) = inference_lines(house, olga, "/models/olga/open", body)
    assert line["model"] == "olga/open"
    assert line["status"] == 200
    assert line["plan"] == "free"
    assert line["generated_tokens"] == 3
    assert line["prompt_tokens"] > 0
    assert line["cache"] == "BYPASS"
    assert line["outcome"] == "success"
    assert line["total_ms"] >= line["inference_ms"] > 0
    assert line["route"] == "/models/{id}"
    (cached,) = inference_lines(house, olga, "/models/olga/open", BODY)
    assert cached["cache"] == "HIT"
    (stream,) = inference_lines(house, olga, "/models/olga/open", BODY | {"stream": True})
    assert (stream["cache"], stream["generated_tokens"]) == ("none", 3)
    chat = {"messages": [{"role": "user", "content": SECRET}], "max_tokens": 2}
    (line,) = inference_lines(house, olga, "/v1/chat/completions", chat | {"model": "olga/open"})
    assert line["generated_tokens"] == 2
    assert line["route"] == "/v1/chat/completions"
    for path in (
        "/models/olga/open/v1/chat/completions",
        "/hf-inference/models/olga%2Fopen@main/chat/completions/",
    ):
        (line,) = inference_lines(house, olga, path, chat)
        assert line["route"] == "/models/{id}/v1/chat/completions"


def test_refused_requests_say_why_in_their_line(house: Hub, olga: Person) -> None:
    for body, outcome in [
        ({"inputs": "a", "parameters": {"top_p": 7}}, "validation"),
        ({"inputs": "the cat " * 100}, "validation"),
    ]:
        (line,) = inference_lines(house, olga, "/models/olga/open", body)
        assert (line["status"], line["outcome"]) == (422, outcome)
    (line,) = inference_lines(house, olga, "/models/olga/pickled", {"inputs": "a"})
    assert (line["status"], line["outcome"]) == (400, "other")


def test_neither_prompts_nor_tokens_nor_names_of_people_are_logged_or_counted(
    house: Hub, mallory: Person, admin: dict[str, str]
) -> None:
    with capture_logs() as lines:
        house.client.post("/models/olga/open", json=BODY, headers=mallory.read)
    token = mallory.read["Authorization"].removeprefix("Bearer ")
    metrics = house.client.get("/metrics", headers=admin).text
    for text in (str(lines), metrics):
        for secret in (SECRET, token, "mallory", "testclient"):
            assert secret not in text


def test_request_id_is_the_callers_if_it_is_sane(house: Hub, olga: Person) -> None:
    for given, is_kept in [("abc-123", True), ("x" * 200, False), ("a b", False)]:
        headers = olga.read | {"x-request-id": given}
        answer = house.client.post("/models/olga/open", json=BODY, headers=headers)
        assert (answer.headers["x-request-id"] == given) is is_kept
        assert answer.headers["x-request-id"]
