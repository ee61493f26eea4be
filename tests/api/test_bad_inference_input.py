"""Bad input on every inference surface: a refusal that names the field, never a 500."""

import json
import re
from typing import Any

import pytest
from factories import Hub, Person

MESSAGES = [{"role": "user", "content": "hello"}]
MODEL = "/models/olga/open"
TEXT = {"inputs": "the cat", "parameters": {"max_new_tokens": 2}}
CHAT = {"model": "olga/open", "messages": MESSAGES, "max_tokens": 2}
COMPLETION = {"model": "olga/open", "prompt": "the cat", "max_tokens": 2}
RESPONSE = {"model": "olga/open", "input": "hello", "max_output_tokens": 16}
SURFACES: dict[str, dict[str, Any]] = {
    MODEL: TEXT,
    f"{MODEL}/generate": TEXT,
    f"{MODEL}/generate_stream": TEXT,
    f"{MODEL}/pipeline/text-generation": TEXT,
    "/pipeline/text-generation/olga/open": TEXT,
    f"/hf-inference{MODEL}": TEXT,
    "/generate": TEXT,
    "/v1/chat/completions": CHAT,
    f"{MODEL}/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETION,
    "/v1/responses": RESPONSE,
    "/v1/embeddings": {"model": "olga/open", "input": "hello"},
    f"{MODEL}/tokenize": {"inputs": "the cat"},
    f"{MODEL}/chat_tokenize": {"messages": MESSAGES},
}
# Values as they stand in the body.
NUMBERS = ("NaN", "Infinity", "1e999", "-1e300", "1e-400", "true", str(2**80), str(-(2**80)), "[]")
PARAMETERS = (
    "best_of",
    "temperature",
    "repetition_penalty",
    "frequency_penalty",
    "top_p",
    "typical_p",
    "top_k",
    "max_new_tokens",
    "max_time",
    "seed",
    "truncate",
    "top_n_tokens",
)
OPENAI_FIELDS = (
    "n",
    "best_of",
    "temperature",
    "top_p",
    "max_tokens",
    "seed",
    "top_logprobs",
    "logit_bias",
)
DEEP = 100_000
# What a refusal must not tell.
SECRETS = re.compile(r"Traceback|site-packages| at 0x|/tmp/|hf_\w{20}")

pytestmark = pytest.mark.usefixtures("olga")


def send(house: Hub, path: str, body: bytes) -> Any:
    answer = house.client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code < 500, (path, body[:200], answer.text)
    assert SECRETS.search(answer.text) is None, answer.text
    return answer


def with_literal(body: dict[str, Any], names: tuple[str, ...], literal: str) -> bytes:
    """The body with a value that `json` does not write."""
    copy = json.loads(json.dumps(body))
    inner = copy
    for name in names[:-1]:
        inner = inner[name]
    inner[names[-1]] = "@@"
    return bytes(json.dumps(copy).replace('"@@"', literal).encode())


@pytest.mark.parametrize("name", PARAMETERS)
def test_numbers_that_are_none_are_refused_by_name(house: Hub, name: str) -> None:
    for literal in NUMBERS:
        answer = send(house, MODEL, with_literal(TEXT, ("parameters", name), literal))
        if literal in ("NaN", "Infinity"):
            assert answer.status_code == 400, literal  # no JSON
            assert "not JSON" in answer.json()["error"]
        elif answer.status_code != 200:
            assert answer.status_code == 422, (literal, answer.text)
            assert answer.json()["error_type"] == "validation"
            assert f"`{name}`" in answer.json()["error"] or literal == "1e999"


@pytest.mark.parametrize("name", OPENAI_FIELDS)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_openais_numbers_are_refused_too(house: Hub, path: str, name: str) -> None:
    for literal in NUMBERS:
        answer = send(house, path, with_literal(SURFACES[path], (name,), literal))
        assert answer.status_code in (200, 400, 422), (literal, answer.text)


@pytest.mark.parametrize("path", SURFACES)
def test_deep_json_is_refused_wherever_it_stands(house: Hub, path: str) -> None:
    list_of_lists = "[" * DEEP + "]" * DEEP
    objects = '{"a":' * DEEP + "1" + "}" * DEEP
    for name in (*SURFACES[path], "tools", "response_format", "options", "unknown"):
        for deep in (list_of_lists, objects):
            answer = send(house, path, with_literal(SURFACES[path], (name,), deep))
            assert answer.status_code in (400, 404), (name, answer.text)


@pytest.mark.parametrize("path", SURFACES)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"1",
        b'""',
        b"\xff\xfe",
        b'{"inputs": "\\ud800", "model": "olga/open"}',
        b'{"\\udfff": 1}',
        b'{"inputs": "\xed\xa0\x80"}',
        b'{"inputs": "a", "inputs": [[]], "model": "olga/open", "model": []}',
    ],
    ids=str,
)
def test_bodies_that_are_none_are_refused(house: Hub, path: str, body: bytes) -> None:
    answer = send(house, path, body)
    assert answer.status_code in (400, 404, 422)
    error = answer.json()["error"]
    assert error["message"] if isinstance(error, dict) else error


@pytest.mark.parametrize("path", SURFACES)
def test_a_body_over_the_limit_is_413_before_it_is_read(house: Hub, path: str) -> None:
    headers = {"Content-Length": str(100 * 2**20)}
    answer = house.client.post(path, content=b"{", headers=headers)
    assert answer.status_code == 413


@pytest.mark.parametrize("path", [p for p in SURFACES if p.startswith("/models")])
@pytest.mark.parametrize("revision", ["..%2F..", "none", "x" * 4000, "%00", "-x", "main~1", "%ff"])
def test_revisions_that_are_none_are_not_found(house: Hub, path: str, revision: str) -> None:
    body = json.dumps(SURFACES[path]).encode()
    assert send(house, f"{path}?revision={revision}", body).status_code == 404
    spelled = path.replace("open", f"open@{revision}")
    assert send(house, spelled, body).status_code == 404


@pytest.mark.parametrize("rest", ["", "/info", "/health"])
def test_questions_about_no_revision_are_not_found(house: Hub, rest: str) -> None:
    assert house.client.get(f"{MODEL}@none{rest}").status_code == 404


@pytest.mark.parametrize("path", [path for path in SURFACES if path != "/generate"])
def test_no_spelling_of_a_pro_model_lets_a_free_user_in(
    house: Hub, mallory: Person, path: str
) -> None:
    for name in ("olga/powerful", "OLGA/Powerful", "olga/powerful@main", "olga/powerful:fastest"):
        body = SURFACES[path] | {"model": name}
        spelled = path.replace("olga/open", name.partition(":")[0])
        answer = house.client.post(spelled, json=body, headers=mallory.read)
        assert answer.status_code in (400, 403), answer.text
        if answer.status_code == 400:
            assert "feature-extraction is not supported" in answer.text
        else:
            assert "Model requires a Pro subscription" in answer.text
