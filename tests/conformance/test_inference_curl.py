"""What people type: `curl` with and without labels, whole and streamed, right and wrong."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hub_server import HubServer
from served_model import ServedModel
from written_model import ANSWER, CONTEXT_LENGTH, COUNTED

CHAT = {"messages": [{"role": "user", "content": "Why?"}], "temperature": 0}


@dataclass(frozen=True)
class Answer:
    """What `curl -i` shows."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """Data of server-sent events, JSON or the terminator's text."""
        lines = [line for line in self.body.splitlines() if line.startswith("data:")]
        texts = [line.removeprefix("data:").strip() for line in lines]
        return [text if text == "[DONE]" else json.loads(text) for text in texts]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("curl")


@dataclass(frozen=True)
class Curl:
    """`curl` as somebody with a token runs it."""

    folder: Path
    token: str

    def __call__(self, url: str, *options: str, data: str | bytes | None = None) -> Answer:
        command = ["curl", "-sS", "-D", str(self.folder / "headers"), url, *options]
        if self.token:
            command += ["-H", f"Authorization: Bearer {self.token}"]
        if data is not None:
            path = self.folder / "data"
            path.write_bytes(data if isinstance(data, bytes) else data.encode())
            command += ["--data-binary", f"@{path}"]
        outcome = subprocess.run(command, capture_output=True, check=True, timeout=60)
        # The last of several answers: `100 Continue` may come before.
        head = (self.folder / "headers").read_text().strip().split("\n\n")[-1].splitlines()
        pairs = [line.partition(":") for line in head[1:]]
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        return Answer(int(head[0].split()[1]), headers, outcome.stdout.decode())


@pytest.fixture(scope="module")
def curl(folder: Path, server: HubServer) -> Curl:
    return Curl(folder, server.person("carol", "--plan", "pro").read_token)


def test_the_example_of_the_documentation_works(curl: Curl, model: ServedModel) -> None:
    # As it is written everywhere: without a content type, which makes it a form.
    answer = curl(model.url, "-d", '{"inputs": "One"}')
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == [{"generated_text": f"One{COUNTED}"}]


@pytest.mark.parametrize(
    "options",
    [
        ["-X", "POST", "-H", "Content-Type: application/json"],
        ["-H", "Content-Type: application/json; charset=utf-8"],
        ["-H", "Content-Type: text/plain"],
        ["-H", "Content-Type: application/octet-stream"],
        ["-H", "Content-Type:"],
        ["-H", "Expect: 100-continue"],
        ["--http1.0"],
        ["-H", "Transfer-Encoding: chunked"],
    ],
    ids=lambda options: " ".join(options),
)
def test_the_label_does_not_matter(curl: Curl, model: ServedModel, options: Sequence[str]) -> None:
    answer = curl(model.url, *options, data='{"inputs": "One"}')
    assert (answer.status, answer.json) == (200, [{"generated_text": f"One{COUNTED}"}])


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ('"One"', f"One{COUNTED}"),
        ("One", f"One{COUNTED}"),
        ('{"text": "One"}', f"One{COUNTED}"),
        ('{"inputs": "One", "unknown": [], "parameters": {"parameters": {}, "best_of": 1}}', None),
        ('{"inputs": "One", "parameters": null, "options": null}', None),
        ('{"inputs": "One", "parameters": {"max_new_tokens": 2}}', "One two three"),
        ('{"inputs": "One", "parameters": {"max_length": 3}}', "One two three"),
        ('{"inputs": "One", "parameters": {"return_full_text": false}}', COUNTED),
        ('{"inputs": "One", "parameters": {"stop_sequences": [" two"]}}', "One two"),
        ('{"inputs": "One", "parameters": {"max_time": 100, "min_length": 1}}', None),
    ],
)
def test_older_bodies_are_understood(
    curl: Curl, model: ServedModel, body: str, text: str | None
) -> None:
    answer = curl(model.url, data=body)
    assert answer.json == [{"generated_text": text or f"One{COUNTED}"}]


def test_lists_are_answered_by_lists(curl: Curl, model: ServedModel) -> None:
    whole = [{"generated_text": f"One{COUNTED}"}]
    assert curl(model.url, data='{"inputs": ["One", "One"]}').json == [whole, whole]
    assert curl(model.url, data='["One", "One"]').json == [whole, whole]
    parameters = '{"num_return_sequences": 2, "do_sample": true, "top_k": 1}'
    answer = curl(model.url, data=f'{{"inputs": "One", "parameters": {parameters}}}')
    assert answer.json == whole * 2


def test_bodies_of_other_surfaces_find_their_way(curl: Curl, model: ServedModel) -> None:
    chat = curl(model.url, data=json.dumps(CHAT))
    assert chat.json["choices"][0]["message"]["content"] == ANSWER
    completion = curl(model.url, data='{"prompt": "One", "temperature": 0}')
    assert completion.json["choices"][0]["text"] == COUNTED


@pytest.mark.parametrize(
    "path",
    [
        "/hf-inference/models/{name}",
        "/pipeline/text-generation/{name}",
        "/models/{name}/pipeline/text-generation",
        "/hf-inference/models/{name}/pipeline/text-generation",
        "/models/{name}/",
    ],
)
def test_every_alias_is_the_same_model(curl: Curl, model: ServedModel, path: str) -> None:
    answer = curl(model.hub.url + path.format(name=model.name), data='{"inputs": "One"}')
    assert answer.json == [{"generated_text": f"One{COUNTED}"}]


def test_generate_answers_an_object(curl: Curl, model: ServedModel) -> None:
    body = '{"inputs": "One", "parameters": {"details": true, "top_n_tokens": 1}, "stream": true}'
    answer = curl(f"{model.url}/generate", data=body)
    assert answer.json["generated_text"] == COUNTED
    details = answer.json["details"]
    assert details.keys() == {
        "finish_reason",
        "generated_tokens",
        "seed",
        "prefill",
        "tokens",
        "top_tokens",
    }
    assert details["prefill"] == []
    assert details["tokens"][0].keys() == {"id", "text", "logprob", "special"}
    # `decoder_input_details` asks for details too.
    body = '{"inputs": "One", "parameters": {"decoder_input_details": true}}'
    assert len(curl(f"{model.url}/generate", data=body).json["details"]["prefill"]) == 1


@pytest.mark.parametrize(
    ("path", "extra", "prompt"),
    [("", {"stream": True}, "One"), ("/generate_stream", {}, "")],
    ids=["body", "route"],
)
def test_events_have_the_keys_that_tgi_gives_them(
    curl: Curl, model: ServedModel, path: str, extra: dict[str, Any], prompt: str
) -> None:
    body = {"inputs": "One", "parameters": {"details": True}} | extra
    answer = curl(f"{model.url}{path}", "-N", data=json.dumps(body))
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["cache-control"] == "no-cache"
    assert "event:" not in answer.body
    events = answer.events
    assert "[DONE]" not in events
    assert [event["index"] for event in events] == list(range(1, 10))
    assert {frozenset(event) for event in events} == {
        frozenset({"index", "token", "generated_text", "details"})
    }
    assert events[-1]["token"]["special"] is True
    assert events[-1]["generated_text"] == prompt + COUNTED
    assert events[-1]["details"] == {
        "finish_reason": "eos_token",
        "generated_tokens": 9,
        "seed": None,
        "input_length": 1,
    }
    assert all(event["details"] is event["generated_text"] is None for event in events[:-1])


def test_chat_chunks_end_with_the_terminator(curl: Curl, model: ServedModel) -> None:
    for url in (f"{model.url}/v1/chat/completions", f"{model.hub.url}/v1/chat/completions"):
        body = CHAT | {"stream": True, "model": model.name}
        *chunks, last = curl(url, "-N", data=json.dumps(body)).events
        assert last == "[DONE]"
        texts = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]
        assert "".join(texts) == ANSWER
        assert {chunk["choices"][0]["delta"]["role"] for chunk in chunks} == {"assistant"}
        assert {frozenset(chunk) for chunk in chunks} == {
            frozenset(
                ["id", "object", "created", "model", "system_fingerprint", "choices", "usage"]
            )
        }


def test_headers_say_what_was_computed(curl: Curl, model: ServedModel) -> None:
    fresh = curl(model.url, "-H", "x-use-cache: 0", data='{"inputs": "One"}').headers
    assert fresh["x-compute-type"] == "cpu"
    assert float(fresh["x-compute-time"]) > 0
    assert fresh["x-compute-characters"] == "3"
    assert (fresh["x-prompt-tokens"], fresh["x-generated-tokens"]) == ("1", "9")
    for name in ("total", "validation", "queue", "inference"):
        assert int(fresh[f"x-{name}-time"]) >= 0
    assert int(fresh["x-time-per-token"]) >= 0
    assert fresh["ratelimit"].startswith('"')
    origin = ("-H", "Origin: https://page.example")
    exposed = (
        curl(model.url, *origin, data='{"inputs": "One"}')
        .headers["access-control-expose-headers"]
        .lower()
    )
    for name in ("x-compute-time", "x-request-id", "ratelimit", "retry-after"):
        assert name in exposed
    own = curl(model.url, "-H", "x-request-id: mine-1", data='{"inputs": "One"}').headers
    assert own["x-request-id"] == "mine-1"


@pytest.mark.parametrize(
    ("headers", "body", "is_fresh"),
    [
        ({}, {}, False),
        ({"x-use-cache": "0"}, {}, True),
        ({"x-use-cache": "False"}, {}, True),
        ({"x-use-cache": "OFF"}, {}, True),
        ({"x-use-cache": "no"}, {}, True),
        ({"cache-control": "no-cache"}, {}, True),
        ({"cache-control": "no-store"}, {}, True),
        ({}, {"use_cache": False}, True),
        ({"x-use-cache": "1"}, {"use_cache": False}, False),
    ],
    ids=str,
)
def test_a_kept_answer_is_not_given_to_who_asks_for_a_fresh_one(
    curl: Curl, model: ServedModel, headers: dict[str, str], body: dict[str, Any], is_fresh: bool
) -> None:
    data = {"inputs": "x", "parameters": {"do_sample": True, "temperature": 9.0, "seed": None}}
    kept = curl(model.url, data=json.dumps(data))
    options = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    answers = [
        curl(model.url, *options, data=json.dumps(data | {"options": body})) for _ in range(3)
    ]
    assert all(answer.status == 200 for answer in answers)
    if is_fresh:
        assert any(answer.body != kept.body for answer in answers)
        assert {answer.headers["x-cache"] for answer in answers} == {"BYPASS"}
        assert {answer.headers["x-compute-type"] for answer in answers} == {"cpu"}
    else:
        assert {answer.body for answer in answers} == {kept.body}
        assert {answer.headers["x-cache"] for answer in answers} == {"HIT"}
        assert {answer.headers["x-compute-type"] for answer in answers} == {"cache"}


def test_chat_is_kept_only_when_asked_for(curl: Curl, model: ServedModel) -> None:
    body = json.dumps({"messages": CHAT["messages"], "temperature": 2, "max_tokens": 20})
    url = f"{model.url}/v1/chat/completions"
    assert curl(url, data=body).headers.get("x-cache") != "HIT"
    assert curl(url, data=body).headers.get("x-cache") != "HIT"
    kept = [curl(url, "-H", "x-use-cache: 1", data=body) for _ in range(2)]
    assert kept[1].headers["x-cache"] == "HIT"
    assert kept[0].json["choices"] == kept[1].json["choices"]


def test_the_endpoint_describes_itself(curl: Curl, model: ServedModel) -> None:
    info = curl(f"{model.url}/info").json
    assert info["model_id"] == model.name
    assert len(info["model_sha"]) == 40
    assert info["max_total_tokens"] == CONTEXT_LENGTH
    assert info["max_input_length"] == info["max_input_tokens"] == CONTEXT_LENGTH - 1
    assert (info["max_client_batch_size"], info["model_pipeline_tag"]) == (4, "text-generation")
    health = curl(f"{model.url}/health")
    assert (health.status, health.body) == (200, "")
    keys = {"loaded": True, "state": "Loaded"}
    for url in (model.url, f"{model.hub.url}/status/{model.name}"):
        status = curl(url).json
        assert status | keys == status
        assert status["framework"] == "text-generation-inference"
        assert status["compute_type"] in ("cpu", "gpu")
    deployed = curl(f"{model.hub.url}/framework/text-generation-inference").json
    assert {"model_id": model.name, "task": "text-generation"}.items() <= next(
        entry for entry in deployed if entry["model_id"] == model.name
    ).items()
    assert curl(f"{model.hub.url}/framework/none").json == []
    assert curl(f"{model.hub.url}/api/tasks").json["text-generation"]["widgetModels"]


def test_tokens_have_their_places(curl: Curl, model: ServedModel) -> None:
    tokens = curl(f"{model.url}/tokenize", data='{"inputs": "One two"}').json
    assert [(token["start"], token["stop"]) for token in tokens] == [(0, 3), (3, 7)]
    assert all(token.keys() == {"id", "text", "start", "stop"} for token in tokens)
    chat = curl(f"{model.url}/chat_tokenize", data=json.dumps(CHAT)).json
    assert chat["templated_text"] == "<|user|>Why?<|end|><|assistant|>"
    assert len(chat["tokenize_response"]) == 7


def test_browsers_may_ask_before(curl: Curl, model: ServedModel) -> None:
    for path in (model.url, f"{model.hub.url}/v1/chat/completions"):
        answer = curl(
            path,
            *("-X", "OPTIONS", "-H", "Origin: https://page.example"),
            *("-H", "Access-Control-Request-Method: POST"),
            *("-H", "Access-Control-Request-Headers: authorization, x-use-cache, x-stainless-os"),
        )
        assert answer.status == 204
        allowed = answer.headers["access-control-allow-headers"].lower()
        assert {"authorization", "x-use-cache", "x-stainless-os"} <= set(
            allowed.replace(" ", "").split(",")
        )


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ("", 400, "body"),
        ("{}", (400, 422), "`inputs`"),
        ("{", 400, "JSON"),
        ('{"inputs": }', 400, "JSON"),
        ('{"inputs": "a" "b"}', 400, "JSON"),
        ("[" * 100_000, 400, ""),
        (b'{"inputs": "\xff"}', 400, ""),
        (b"\xff\xfe\x00", 400, "JSON"),
        ('{"inputs": 5}', 422, "`inputs`"),
        ('{"inputs": {"text": "a", "past_user_inputs": []}}', 400, ""),
        ('{"inputs": "a", "parameters": []}', 422, "`parameters`"),
        ('{"inputs": "a", "parameters": {"temperature": "hot"}}', 422, "`temperature`"),
        ('{"inputs": "a", "parameters": {"temperature": true}}', 422, "`temperature`"),
        ('{"inputs": "a", "parameters": {"temperature": NaN}}', 400, "JSON"),
        ('{"inputs": "a", "parameters": {"temperature": 1e999}}', (400, 422), ""),
        ('{"inputs": "a", "parameters": {"max_new_tokens": 0}}', 422, "must be strictly positive"),
        ('{"inputs": "a", "parameters": {"max_new_tokens": 2147483648}}', 422, "`max_new_tokens`"),
        ('{"inputs": "a", "parameters": {"max_new_tokens": 1.5}}', 422, "`max_new_tokens`"),
        (f'{{"inputs": "a", "parameters": {{"seed": {2**80}}}}}', 422, "`seed`"),
        ('{"inputs": "a", "parameters": {"seed": -1}}', 422, "`seed`"),
        ('{"inputs": "a", "parameters": {"best_of": 1000000}}', 422, "`best_of`"),
        ('{"inputs": "a", "parameters": {"frequency_penalty": 3}}', 422, "`frequency_penalty`"),
        ('{"inputs": "a", "parameters": {"stop": [5]}}', 422, "`stop`"),
        ('{"inputs": "a", "parameters": {"adapter_id": "x"}}', 422, "`adapter_id`"),
        ('{"inputs": "a", "parameters": {"grammar": {"type": "regex", "value": "("}}}', 422, ""),
        ('{"inputs": "' + "a" * 3_000_000 + '"}', 413, ""),
    ],
    ids=lambda value: str(value)[:60],
)
@pytest.mark.parametrize("path", ["", "/generate_stream"])
def test_what_is_wrong_is_said_in_a_sentence(
    curl: Curl, model: ServedModel, path: str, body: str, status: Any, sentence: str
) -> None:
    answer = curl(f"{model.url}{path}", data=body)
    statuses = status if isinstance(status, tuple) else (status,)
    assert answer.status in statuses, answer.body
    assert answer.headers["content-type"] == "application/json"
    assert sentence in answer.json["error"]
    assert len(answer.json["error"]) > 10
    if answer.status == 422:
        assert answer.json["error_type"] == "validation"
        assert answer.json["error"].startswith("Input validation error: ")


def test_another_task_is_refused(curl: Curl, model: ServedModel) -> None:
    answer = curl(f"{model.url}/pipeline/translation", data='{"inputs": "One"}')
    assert answer.status == 400
    assert answer.json["error"] == f"translation is not supported for {model.name}"


def test_routes_that_name_no_model_say_so(curl: Curl, server: HubServer) -> None:
    for path in ("/generate", "/generate_stream", "/tokenize", "/invocations"):
        answer = curl(f"{server.url}{path}", data='{"inputs": "One"}')
        assert answer.status == 404
        assert "no default model" in answer.json["error"]
