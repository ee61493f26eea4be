"""Every surface of every client refuses alike, by the client's own typed error."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from client_process import ClientError, ClientProcess, NewProcess, node_process, python_process
from hub_server import HubServer, Person
from served_model import ServedModel, push_model

PYTHON_OPENING = """
from huggingface_hub import InferenceClient
WHY = [{"role": "user", "content": "Why?"}]
"""
TEXT_GENERATION_OPENING = """
from text_generation import Client

def client_of(url, token):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return Client(url, headers=headers, timeout=60)
"""
OPENAI_OPENING = """
import openai

def client_of(url, token):
    return openai.OpenAI(base_url=f"{url}/v1", api_key=token or "-", max_retries=0)

def headers_of(token):
    return {} if token else {"Authorization": openai.Omit()}
"""
NODE_OPENING = """
const clientOf = (endpointUrl, token) => new inference.InferenceClient(token, { endpointUrl })
const why = [{ role: 'user', content: 'Why?' }]
const read = async (stream) => { for await (const event of stream) void event }
return { clientOf, why, read }
"""
HUB = "InferenceClient(model=url, token=token or None)"
HUB_PROGRAMS = {
    "text": f"return {HUB}.text_generation('One')",
    "text stream": f"return list({HUB}.text_generation('One', stream=True))",
    "chat": f"return {HUB}.chat_completion(WHY)",
    "chat stream": f"return list({HUB}.chat_completion(WHY, stream=True))",
}
TEXT_GENERATION_PROGRAMS = {
    "text": "return client_of(url, token).generate('One')",
    "text stream": "return list(client_of(url, token).generate_stream('One'))",
    "chat": f"return client_of(url, token).chat({[{'role': 'user', 'content': 'Why?'}]})",
}
OPENAI_PROGRAMS = {
    f"{name} {base}": (
        f"return list(client_of({base}, token).{call}, extra_headers=headers_of(token)))"
    )
    for base in ("root", "url")
    for name, call in (
        ("chat", "chat.completions.create(model=name, messages=WHY"),
        ("chat stream", "chat.completions.create(model=name, messages=WHY, stream=True"),
        ("completions", "completions.create(model=name, prompt='One'"),
        ("completions stream", "completions.create(model=name, prompt='One', stream=True"),
        ("responses", "responses.create(model=name, input='Why?'"),
        ("responses stream", "responses.create(model=name, input='Why?', stream=True"),
    )
}
NODE_PROGRAMS = {
    "text": "return await clientOf(url, token).textGeneration({ inputs: 'One' })",
    "text stream": "return await read(clientOf(url, token).textGenerationStream({inputs: 'One'}))",
    "chat": "return await clientOf(url, token).chatCompletion({ messages: why })",
    "chat stream": "return await read(clientOf(url, token).chatCompletionStream({messages: why}))",
}
# Of a fourth kind: no client at all. Where the address does not name the model, the body does.
CHAT_BODY = {"messages": [{"role": "user", "content": "Why?"}]}
BARE_PATHS: dict[str, dict[str, Any]] = {
    "/models/{name}": {"inputs": "One"},
    "/models/{name}/": {"inputs": "One", "stream": True},
    "/models/{name}/generate": {"inputs": "One"},
    "/models/{name}/generate_stream": {"inputs": "One"},
    "/models/{name}/tokenize": {"inputs": "One"},
    "/models/{name}/chat_tokenize": CHAT_BODY,
    "/models/{name}/pipeline/text-generation": {"inputs": "One"},
    "/pipeline/text-generation/{name}": {"inputs": "One"},
    "/hf-inference/models/{name}": {"inputs": "One"},
    "/hf-inference/models/{name}/v1/chat/completions": CHAT_BODY,
    "/models/{name}/v1/completions": {"prompt": "One"},
    "/v1/chat/completions": CHAT_BODY,
    "/v1/completions": {"prompt": "One", "stream": True},
    "/v1/responses": {"input": "Why?"},
}
SURFACES = [
    *(f"{family} {name}" for family in ("2.4", "0.36", "0.23") for name in HUB_PROGRAMS),
    *(f"text-generation {name}" for name in TEXT_GENERATION_PROGRAMS),
    *(f"openai {name}" for name in OPENAI_PROGRAMS),
    *(f"js {name}" for name in NODE_PROGRAMS),
    *(f"bare {path}" for path in BARE_PATHS),
]


@dataclass(frozen=True)
class Refusal:
    """What a case is refused with.

    Attributes:
        errors: Class of the error of each family; the three of `huggingface_hub` are one.
    """

    status: int
    sentence: str
    errors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """Who asks which model, and how that ends."""

    model: str
    caller: str
    refusal: Refusal


def refusal(status: int, sentence: str, hub: str, text_generation: str, openai: str) -> Refusal:
    errors = {"hub": hub, "text-generation": text_generation, "openai": openai}
    return Refusal(status, sentence, errors | {"js": "InferenceClientProviderApiError"})


NOT_FOUND = refusal(
    404, "does not exist", "RepositoryNotFoundError", "NotFoundError", "NotFoundError"
)
CASES = {
    "a stranger at a gate": Case(
        "gated",
        "bob",
        refusal(403, "gated", "GatedRepoError", "ShardNotReadyError", "PermissionDeniedError"),
    ),
    "nobody at a gate": Case(
        "gated",
        "nobody",
        refusal(401, "gated", "GatedRepoError", "UnknownError", "AuthenticationError"),
    ),
    # Where nothing is looks the same: the other files have that.
    "a stranger at what is private": Case("private", "bob", NOT_FOUND),
    "a token that is none": Case(
        "written",
        "liar",
        refusal(
            401,
            "Invalid credentials in Authorization header",
            "HfHubHTTPError",
            "UnknownError",
            "AuthenticationError",
        ),
    ),
    "a free user at a PRO model": Case(
        "pro",
        "bob",
        refusal(
            403,
            "Model requires a Pro subscription",
            "HfHubHTTPError",
            "ShardNotReadyError",
            "PermissionDeniedError",
        ),
    ),
    "a user whose requests are used up": Case(
        "written",
        "dora",
        refusal(
            429, "Rate limit reached", "HfHubHTTPError", "RateLimitExceededError", "RateLimitError"
        ),
    ),
}


@pytest.fixture(scope="module")
def models(server: HubServer, model: ServedModel, written_folder: Path) -> dict[str, ServedModel]:
    alice = server.person("alice")
    pro = push_model(alice, "pro", written_folder)
    server.gatehouse_commands(
        ("plan", "model", "add", pro.name), ("plan", "set", "enterprise", "--requests-per-hour=1")
    )
    return {
        "written": model,
        "gated": push_model(alice, "gated", written_folder, gate="manual"),
        "private": push_model(alice, "private", written_folder, private=True),
        "pro": pro,
        "nothing": ServedModel(server, "alice/nothing"),
    }


@pytest.fixture(scope="module")
def tokens(server: HubServer, models: dict[str, ServedModel]) -> dict[str, str]:
    """What each caller sends; Dora's plan allows one request, which she has had."""
    dora = server.person("dora", "--plan", "enterprise")
    for _ in range(2):
        last = ask(models["written"], dora)
    assert last.status_code == 429
    bob = server.person("bob")
    return {"bob": bob.read_token, "dora": dora.read_token, "nobody": "", "liar": "hf_" + "x" * 34}


def ask(model: ServedModel, person: Person) -> httpx.Response:
    headers = {"Authorization": f"Bearer {person.read_token}"}
    return httpx.post(model.url, json={"inputs": "One"}, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def processes(new_process: NewProcess) -> dict[str, Callable[[], ClientProcess]]:
    """By family, each started when first asked for."""
    started: dict[str, ClientProcess] = {}
    makers: dict[str, tuple[Any, ...]] = {
        "2.4": (python_process, None, PYTHON_OPENING),
        "0.36": (python_process, None, PYTHON_OPENING, "hub-0.36"),
        "0.23": (python_process, None, PYTHON_OPENING, "hub-0.23"),
        "text-generation": (python_process, None, TEXT_GENERATION_OPENING, "hub-0.36"),
        "openai": (python_process, None, f"{PYTHON_OPENING}\n{OPENAI_OPENING}"),
        "js": (node_process, None, NODE_OPENING),
    }

    def starter(family: str) -> Callable[[], ClientProcess]:
        def start() -> ClientProcess:
            if family not in started:
                started[family] = new_process(*makers[family])
            return started[family]

        return start

    return {family: starter(family) for family in makers}


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("case_name", CASES)
def test_a_refusal_is_the_clients_own(
    case_name: str,
    surface: str,
    tokens: dict[str, str],
    models: dict[str, ServedModel],
    processes: dict[str, Callable[[], ClientProcess]],
) -> None:
    case = CASES[case_name]
    token, model = tokens[case.caller], models[case.model]
    family, _, name = surface.partition(" ")
    if family == "bare":
        refused_bare(case.refusal, model, token, name)
        return
    programs = {
        "text-generation": TEXT_GENERATION_PROGRAMS,
        "openai": OPENAI_PROGRAMS,
        "js": NODE_PROGRAMS,
    }.get(family, HUB_PROGRAMS)
    given = {"url": model.url, "root": model.hub.url, "name": model.name, "token": token}
    with pytest.raises(ClientError) as caught:
        processes[family]().ask(programs[name], **given)
    error = caught.value
    if (surface, case.refusal.status) == ("0.23 chat stream", 404):
        # It takes that for a model without chat, tries something else and says that.
        return
    wanted = case.refusal.errors[family if family in case.refusal.errors else "hub"]
    assert wanted in error.names, error
    is_rebuilt = family == "2.4" and case.refusal.status == 429
    assert ("rate limit" if is_rebuilt else case.refusal.sentence) in error.text
    if family != "text-generation":
        assert error.status == case.refusal.status


def refused_bare(refusal: Refusal, model: ServedModel, token: str, path: str) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    body = BARE_PATHS[path]
    if "{name}" not in path:
        body = body | {"model": model.name}
    url = model.hub.url + path.format(name=model.name)
    answer = httpx.post(url, json=body, headers=headers, timeout=60)
    assert answer.status_code == refusal.status, answer.text
    error = answer.json()["error"]
    said = error["message"] if path.startswith("/v1/") else error
    assert refusal.sentence in said
    assert answer.headers["x-request-id"]
    assert answer.headers["ratelimit"].startswith('"')
    if refusal.status == 429:
        assert int(answer.headers["retry-after"]) > 60
        assert ";r=0;" in answer.headers["ratelimit"]
        assert answer.headers["x-should-retry"] == "false"


def test_what_is_private_looks_as_if_it_were_not(
    models: dict[str, ServedModel], tokens: dict[str, str]
) -> None:
    headers = {"Authorization": f"Bearer {tokens['bob']}"}
    found = []
    for name in ("private", "nothing"):
        answer = httpx.post(models[name].url, json={"inputs": "One"}, headers=headers, timeout=60)
        found.append(answer.text.replace(models[name].name, "NAME"))
    assert found[0] == found[1]


def test_a_pro_user_runs_the_pro_model(
    models: dict[str, ServedModel], tokens: dict[str, str], server: HubServer
) -> None:
    carol = server.person("carol", "--plan", "pro")
    assert ask(models["pro"], carol).status_code == 200
    # Nor is a free user served by what was kept for her.
    assert ask(models["pro"], server.person("bob")).status_code == 403


def test_a_list_of_models_is_of_those_that_may_be_run(
    models: dict[str, ServedModel], tokens: dict[str, str], server: HubServer
) -> None:
    def listed(token: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        found = httpx.get(f"{server.url}/v1/models", headers=headers, timeout=60).json()["data"]
        return {entry["id"]: entry for entry in found}

    for caller in ("bob", "nobody"):
        found = listed(tokens[caller])
        assert models["written"].name in found
        assert found[models["pro"].name]["gated_by_plan"] == "pro"
        assert models["private"].name not in found
        assert models["gated"].name not in found
    owners = listed(server.person("alice").read_token)
    assert {models["private"].name, models["gated"].name} <= owners.keys()
