"""The other ways to a model: OpenAI's routes at the root, TGI's own, and lists of what there is."""

from typing import Any
from urllib.parse import unquote

import pytest
from factories import Hub, Person

CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}
FORMATS = {"generated_text"}
TGI_ROUTES = ("/", "/generate", "/generate_stream", "/invocations", "/tokenize", "/chat_tokenize")


def post(house: Hub, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
    return house.client.post(path, json=body, headers=headers or {})


@pytest.mark.usefixtures("olga")
class TestRootRoutes:
    @pytest.mark.parametrize(
        "name", ["olga/open", "OLGA/Open", "olga/open:fastest", "olga/open@main", "tgi", None]
    )
    def test_model_is_named_by_the_body(self, house: Hub, name: str | None) -> None:
        answer = post(house, "/v1/chat/completions", {**CHAT, "model": name})
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"] == "olga/open"

    def test_trailing_slash_is_the_same_address(self, house: Hub) -> None:
        body = {"model": "olga/open", "prompt": "the cat", "max_tokens": 2}
        assert post(house, "/v1/completions/", body).json()["usage"]["completion_tokens"] == 2

    def test_unknown_and_hidden_models_are_refused_in_the_same_bytes(
        self, house: Hub, olga: Person, mallory: Person
    ) -> None:
        house.make_repo(olga, "secret", private=True, files={"config.json": b"{}"})
        nobody: dict[str, str] = {}
        for who in (nobody, mallory.read):
            for path in ("/v1/chat/completions", "/v1/completions"):
                hidden, absent = (
                    post(house, path, {**CHAT, "prompt": "a", "model": name}, who)
                    for name in ("olga/secret", "olga/absent")
                )
                assert hidden.status_code == absent.status_code == 404
                assert hidden.content.replace(b"secret", b"absent") == absent.content
                error = hidden.json()["error"]
                assert error["message"] == "Model olga/secret does not exist"
                assert error["code"] == "model_not_found"
                assert error["type"] == "not_found_error"
                kept = {"x-request-id", "ratelimit"}
                assert {k: v for k, v in hidden.headers.items() if k not in kept} == {
                    k: v.replace("absent", "secret")
                    for k, v in absent.headers.items()
                    if k not in kept
                }
        names = {
            path: [
                house.client.get(path.format(name), headers=mallory.read).content
                for name in ("secret", "absent")
            ]
            for path in ("/v1/models/olga%2F{}", "/models/olga/{}/info", "/status/olga/{}")
        }
        for hidden_bytes, absent_bytes in names.values():
            assert b"does not exist" in hidden_bytes
            assert hidden_bytes.replace(b"secret", b"absent") == absent_bytes

    @pytest.mark.parametrize(
        "name", ["gpt2", "a/b/c", "olga/open:", "http://x/models/olga/open", "x" * 5000, "\n"]
    )
    def test_names_that_name_nothing_are_not_found(self, house: Hub, name: str) -> None:
        answer = post(house, "/v1/completions", {"model": name, "prompt": "a"})
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "model_not_found"
        assert len(answer.content) < 500

    @pytest.mark.parametrize(
        ("content", "status"),
        [(b"", 400), (b"[]", 400), (b"{", 400), (b'{"model": 3}', 400), (b'{"model": []}', 400)],
    )
    def test_bodies_without_a_model_are_refused_in_openais_form(
        self, house: Hub, content: bytes, status: int
    ) -> None:
        answer = house.client.post("/v1/completions", content=content)
        assert answer.status_code == status
        assert answer.json()["error"]["type"] == "invalid_request_error"

    def test_gate_holds_for_models_named_by_the_body(
        self, house: Hub, olga: Person, mallory: Person
    ) -> None:
        for path in ("/v1/chat/completions", "/v1/completions"):
            body = {**CHAT, "prompt": "a", "max_tokens": 1, "model": "olga/gated"}
            assert post(house, path, body).status_code == 401
            refused = post(house, path, body, mallory.read)
            assert refused.status_code == 403
            assert refused.json()["error"]["type"] == "permission_error"
            assert post(house, path, body, olga.read).status_code == 200

    def test_wrong_token_has_openais_form(self, house: Hub) -> None:
        headers = {"Authorization": "Bearer hf_nonsense"}
        answer = post(house, "/v1/completions", {"model": "olga/open", "prompt": "a"}, headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["type"] == "authentication_error"
        assert answer.headers["x-error-message"] == "Invalid credentials in Authorization header"
        assert answer.headers["www-authenticate"] == "Bearer"

    def test_old_name_of_a_moved_model_still_runs(self, house: Hub, olga: Person) -> None:
        repository = house.make_repo(olga, "before", files={"config.json": b"{}"})
        house.services.repositories.move(
            olga.actor, repository, type(repository.repo_id)("olga", "after")
        )
        for answer in (
            post(house, "/v1/completions", {"model": "olga/before", "prompt": "a"}),
            post(house, "/models/olga/before", {"inputs": "a"}),
        ):
            assert answer.status_code == 400
            assert "olga/after" in answer.text or "safetensors" in answer.text


@pytest.mark.usefixtures("olga")
class TestListsOfModels:
    def test_list_holds_what_the_caller_may_run(
        self, house: Hub, olga: Person, mallory: Person
    ) -> None:
        def ids(headers: dict[str, str]) -> dict[str, Any]:
            answer = house.client.get("/v1/models", headers=headers).json()
            assert answer["object"] == "list"
            return {model["id"]: model for model in answer["data"]}

        strangers, owners = ids(mallory.read), ids(olga.read)
        assert {"olga/open", "olga/powerful"} <= strangers.keys()
        assert "olga/gated" not in strangers
        assert "olga/gated" in owners
        assert not {"olga/masks", "olga/pickled"} & owners.keys()
        assert strangers["olga/powerful"]["gated_by_plan"] == "pro"
        assert "gated_by_plan" not in strangers["olga/open"]
        assert strangers["olga/open"]["object"] == "model"
        assert strangers["olga/open"]["owned_by"] == "olga"
        assert isinstance(strangers["olga/open"]["created"], int)

    @pytest.mark.parametrize(
        "path",
        [
            "/v1/models/olga/open",
            "/v1/models/olga%2Fopen",
            "/v1/models/olga%2fopen:fastest",
            "/models/olga/open/v1/models/olga/open",
            "/models/olga/open/v1/models/Olga%2FOpen:fastest",
            "/hf-inference/models/olga%2Fopen/models/olga/open@main",
        ],
    )
    def test_one_model_with_either_slash(self, house: Hub, path: str) -> None:
        assert house.client.get(path).json()["id"] == "olga/open"

    def test_list_below_a_model_holds_that_one(self, house: Hub) -> None:
        for path in ("/models/olga/open/v1/models", "/models/olga/open/models"):
            (model,) = house.client.get(path).json()["data"]
            assert model["id"] == "olga/open"

    @pytest.mark.parametrize("name", ["olga/idle", "olga/nothing", "open", "tgi", "a b", "%2F"])
    def test_other_models_are_not_there_below_a_model(self, house: Hub, name: str) -> None:
        path = f"/models/olga/open/v1/models/{name}"
        sentence = f"Model {unquote(name)} does not exist"
        answer = house.client.get(path)
        assert answer.status_code == 404
        assert answer.json() == {"error": sentence}
        answer = house.client.get(path, headers={"User-Agent": "OpenAI/Python 3.54.0"})
        assert answer.status_code == 404
        assert answer.json()["error"]["message"] == sentence
        assert answer.json()["error"]["code"] == "model_not_found"

    def test_what_cannot_be_run_is_not_there(self, house: Hub, mallory: Person) -> None:
        assert house.client.get("/v1/models/olga/masks").status_code == 404
        assert house.client.get("/v1/models/olga/nothing").status_code == 404
        gated = house.client.get("/v1/models/olga/gated", headers=mallory.read)
        assert gated.status_code == 403

    def test_frameworks_and_tasks_name_runnable_models(self, house: Hub, olga: Person) -> None:
        answer = house.client.get("/framework/text-generation-inference").json()
        sha = {model["model_id"]: model for model in answer}["olga/open"]["sha"]
        assert len(sha) == 40
        assert "olga/gated" not in {model["model_id"] for model in answer}
        assert house.client.get("/framework/diffusers").json() == []
        tasks = house.client.get("/api/tasks", headers=olga.read).json()
        models = tasks["text-generation"]
        assert models["widgetModels"][0] == models["models"][0]["id"]
        assert "olga/gated" in models["widgetModels"]
        assert models["widgetModels"][-1] == "olga/powerful"


@pytest.mark.usefixtures("olga")
class TestSpellings:
    @pytest.mark.parametrize(
        "path",
        [
            "/models/olga%2Fopen",
            "/hf-inference/models/olga/open/",
            "/api/inference-proxy/hf-inference/models/olga/open",
            "/pipeline/text-generation/olga/open",
            "/models/olga/open/pipeline/text-generation",
            "/hf-inference/models/olga/open/pipeline/text-generation/",
        ],
    )
    def test_text_is_generated(self, house: Hub, path: str) -> None:
        body = {"inputs": "the cat", "parameters": {"max_new_tokens": 2}}
        answer = post(house, path, body)
        assert answer.json()[0]["generated_text"].startswith("the cat"), answer.text

    @pytest.mark.parametrize("rest", ["/v1/chat/completions", "/chat/completions"])
    def test_version_may_be_left_out(self, house: Hub, rest: str) -> None:
        answer = post(house, f"/models/olga/open{rest}", {**CHAT, "model": "http://elsewhere"})
        assert answer.json()["model"] == "olga/open"

    def test_other_tasks_are_refused(self, house: Hub) -> None:
        for path in (
            "/pipeline/fill-mask/olga/open",
            "/models/olga/open/pipeline/feature-extraction",
        ):
            answer = post(house, path, {"inputs": "a"})
            assert answer.status_code == 400
            assert answer.json()["error"].endswith("is not supported for olga/open")

    def test_names_without_an_owner_are_not_found(self, house: Hub) -> None:
        for answer in (
            post(house, "/models/gpt2", {"inputs": "a"}),
            post(house, "/hf-inference/models/gpt2/", {"inputs": "a"}),
            post(house, "/pipeline/text-generation/gpt2", {"inputs": "a"}),
            house.client.get("/status/gpt2"),
        ):
            assert answer.status_code == 404
            assert answer.json() == {"error": "Model gpt2 does not exist"}

    def test_prompt_and_messages_are_dispatched_by_the_body(self, house: Hub) -> None:
        answer = post(house, "/models/olga/open", {"prompt": "the cat", "max_tokens": 2})
        assert answer.json()["object"] == "text_completion"
        assert post(house, "/models/olga/open", CHAT).json()["object"] == "chat.completion"

    def test_preflights_are_answered_without_a_token(self, house: Hub) -> None:
        for path in ("/models/olga/gated", "/v1/completions", "/models/olga/gated/generate"):
            asked = "authorization, x-stainless-os, x-use-cache, x-evil"
            headers = {
                "Origin": "https://page.example",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": asked,
            }
            answer = house.client.options(path, headers=headers)
            assert answer.status_code == 204
            allowed = answer.headers["access-control-allow-headers"]
            assert "authorization" in allowed
            assert "x-stainless-os" in allowed
            assert "x-evil" not in allowed
            assert house.client.options(path).status_code == 204

    def test_pages_of_other_origins_may_read_the_figures(self, house: Hub) -> None:
        headers = {"Origin": "https://page.example"}
        answer = post(house, "/models/olga/open", {"inputs": "the cat"}, headers)
        exposed = answer.headers["access-control-expose-headers"].lower()
        names = ("x-compute-time", "x-time-per-token", "x-generated-tokens", "ratelimit-policy")
        assert all(name in exposed for name in names)


@pytest.mark.usefixtures("olga")
class TestTokens:
    def test_text_is_tokenized_with_places(self, house: Hub) -> None:
        for path in ("/models/olga/open/tokenize", "/tokenize"):
            tokens = post(house, path, {"inputs": "the cat"}).json()
            assert all(list(token) == ["id", "text", "start", "stop"] for token in tokens)
            assert tokens[0]["id"] == 1
            assert "the cat"[tokens[-1]["start"] : tokens[-1]["stop"]].strip() == "cat"

    def test_conversation_is_tokenized_with_its_text(self, house: Hub) -> None:
        answer = post(house, "/models/olga/open/chat_tokenize", CHAT).json()
        assert answer["templated_text"] == "<s>user: hello</s><s>assistant:"
        assert answer["tokenize_response"][0]["text"] == "<s>"

    @pytest.mark.parametrize("body", [{}, {"inputs": 3}, {"inputs": ["a"]}])
    def test_what_is_no_text_is_refused(self, house: Hub, body: Any) -> None:
        answer = post(house, "/models/olga/open/tokenize", body)
        assert answer.status_code == 422
        assert answer.json()["error_type"] == "validation"

    def test_gate_holds(self, house: Hub, mallory: Person) -> None:
        for rest in ("tokenize", "chat_tokenize"):
            answer = post(house, f"/models/olga/gated/{rest}", {"inputs": "a"}, mallory.read)
            assert answer.status_code == 403


@pytest.mark.usefixtures("olga")
class TestDefaultModel:
    def test_routes_of_tgi_answer_for_it(self, house: Hub) -> None:
        body = {"inputs": "the cat", "parameters": {"max_new_tokens": 2}}
        assert post(house, "/", body).json()[0].keys() == FORMATS
        assert post(house, "/invocations", body).json()[0].keys() == FORMATS
        assert post(house, "/generate", body).json().keys() == FORMATS
        assert post(house, "/generate_stream", body).text.count("data: {") == 2
        assert house.client.get("/info").json()["model_id"] == "olga/open"
        assert house.client.get("/ping").status_code == 200
        assert post(house, "/chat_tokenize", CHAT).json()["templated_text"].startswith("<s>")

    def test_start_page_is_undisturbed(self, house: Hub) -> None:
        answer = house.client.get("/", headers={"Accept": "text/html"})
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")

    def test_without_one_there_is_nothing_at_these_addresses(self, hub: Hub) -> None:
        body = {"inputs": "a", "messages": []}
        answers = [post(hub, path, body) for path in TGI_ROUTES]
        answers.append(hub.client.get("/info"))
        for answer in answers:
            assert answer.status_code == 404
            assert "default model" in answer.json()["error"]
        answer = post(hub, "/v1/completions", {"prompt": "a"})
        assert answer.status_code == 400
        assert answer.json()["error"]["message"].startswith("`model` must be a string")


def test_health_says_whether_the_model_can_run(house: Hub, olga: Person) -> None:
    assert house.client.get("/models/olga/open/health").status_code == 200
    answer = house.client.get("/models/olga/pickled/health", headers=olga.read)
    assert answer.status_code == 503
    assert answer.json() == {"error": "unhealthy", "error_type": "healthcheck"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/models/olga/open", {"inputs": "the cat"}),
        ("/models/olga/open/generate", {"inputs": "the cat"}),
        ("/models/olga/open/v1/completions", {"prompt": "the cat", "max_tokens": 4}),
        ("/models/olga/open/v1/chat/completions", CHAT),
    ],
)
@pytest.mark.usefixtures("olga")
def test_unstreamed_answers_say_what_they_took(house: Hub, path: str, body: Any) -> None:
    headers = post(house, path, body, {"x-use-cache": "0"}).headers
    names = ("total", "validation", "queue", "inference")
    total, validation, queue, inference = (int(headers[f"x-{name}-time"]) for name in names)
    assert abs(total - validation - queue - inference) <= 2
    assert abs(float(headers["x-compute-time"]) * 1000 - total) <= 1
    assert headers["x-compute-type"] == "cpu"
    assert int(headers["x-time-per-token"]) <= inference
    assert int(headers["x-prompt-tokens"]) >= 3
    assert int(headers["x-generated-tokens"]) in (3, 4, 20, 100)


@pytest.mark.usefixtures("olga")
def test_bodies_for_another_task_are_told_so(house: Hub) -> None:
    for content in (b"\x89PNG\r\n\x1a\n\xff", b'{"inputs": {"image": "aGk="}}', b"{}"):
        answer = house.client.post("/models/olga/masks", content=content)
        assert answer.status_code == 400
        assert answer.json()["error"] == "fill-mask is not supported for olga/masks"
    assert house.client.post("/models/olga/open", content=b"{}").status_code == 400


@pytest.mark.usefixtures("olga")
@pytest.mark.parametrize(
    "text",
    [
        '{"temperature": 1e999}',
        '{"temperature": true}',
        '{"top_p": 1e-400}',
        '{"seed": 1208925819614629174706176}',
        '{"max_new_tokens": 2147483648}',
        '{"best_of": 1000000}',
        '{"stop": {"a": 1}}',
        '{"details": "yes"}',
        '{"grammar": {"type": "json", "value": {"a": 1}}}',
        '{"truncate": 0}',
        '{"truncate": 100000}',
        '{"adapter_id": "x"}',
        "[]",
    ],
)
def test_numbers_and_types_that_cannot_be_meant_are_refused(house: Hub, text: str) -> None:
    for path in ("/models/olga/open", "/models/olga/open/generate_stream"):
        content = f'{{"inputs": "the cat", "parameters": {text}}}'
        answer = house.client.post(path, content=content)
        assert answer.status_code == 422, answer.text
        assert answer.json()["error_type"] == "validation"
        assert answer.json()["error"].startswith("Input validation error: ")


@pytest.mark.usefixtures("olga")
class TestCompletions:
    PATH = "/models/olga/open/v1/completions"

    def test_stream_ends_with_done(self, house: Hub) -> None:
        body = {"prompt": "the cat", "max_tokens": 3, "stream": True}
        answer = post(house, self.PATH, body)
        assert answer.headers["content-type"] == "text/event-stream"
        *chunks, last, nothing = answer.text.split("\n\n")
        assert (len(chunks), last, nothing) == (3, "data: [DONE]", "")
        assert '"token"' not in answer.text

    def test_javascript_clients_find_the_keys_they_are_promised(self, house: Hub) -> None:
        body = {"model": "http://hub.test/x", "prompt": "the cat", "max_tokens": 3, "stream": True}
        agent = {"User-Agent": "@huggingface/inference/4.13.30 (node)"}
        first = post(house, self.PATH, {**body, "details": True}, agent).text.split("\n\n")[0]
        assert '"token":{"id":' in first
        assert '"generated_text":null,"details":null' in first

    def test_refusals_have_the_form_of_the_path(self, house: Hub) -> None:
        body = {"model": "olga/open", "prompt": "a", "suffix": "b"}
        answer = post(house, self.PATH, body)
        assert answer.status_code == 422
        assert answer.json()["error_type"] == "suffix not supported"
        at_root = post(house, "/v1/completions", body)
        assert at_root.json()["error"]["message"] == answer.json()["error"]
        openai = post(house, self.PATH, body, {"User-Agent": "OpenAI/Python 3.54.0"})
        assert openai.json() == at_root.json()
        for stream in (True, False):
            wrong = post(house, self.PATH, {"prompt": ["a"] * 5, "stream": stream})
            assert wrong.status_code == 422
            assert wrong.json()["error_type"] == "validation"

    def test_answers_are_kept_only_if_asked(self, house: Hub) -> None:
        body = {"prompt": "hello", "max_tokens": 8, "temperature": 2}
        texts = [post(house, self.PATH, body).json()["choices"][0]["text"] for _ in range(2)]
        assert texts[0] != texts[1]
        kept = [post(house, self.PATH, body, {"x-use-cache": "1"}) for _ in range(2)]
        assert kept[0].content == kept[1].content
        assert kept[1].headers["x-cache"] == "HIT"

    def test_prompt_over_the_context_is_refused_unless_cut(self, house: Hub) -> None:
        body = {"prompt": "x " * 200, "max_tokens": 2}
        assert post(house, self.PATH, body).status_code == 422
        answer = post(house, self.PATH, {**body, "truncate": 10})
        assert answer.json()["usage"]["prompt_tokens"] == 10
