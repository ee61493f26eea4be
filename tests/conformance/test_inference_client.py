"""Text generation on a model of the hub: `InferenceClient` and `curl`, plain, sampled, streamed.

What is generated is compared with `transformers.generate` on the very same folder, in float32.
"""

import json
import os
import subprocess
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import torch
from conformance_files import DEMO_MODEL
from hub_server import HubServer, Person
from stock_client import StockClient
from transformers import AutoModelForCausalLM, AutoTokenizer

NewClient = Callable[..., StockClient]

REPO_ID = "alice/story-model"
PROMPTS = [
    "Once upon a time",
    "The sea is",
    "A model hub",
    "The little dog",
    "What is the capital of France?",
    "Two plus two",
    "Tell me about water.",
    "In the morning",
    "My friend said",
    "[INST] Hello! [/INST]",
]


@pytest.fixture(scope="module")
def model_url(server: HubServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the demo model, pushed by its owner, is run."""
    machine = StockClient(
        server, tmp_path_factory.mktemp("machine"), server.person("alice").write_token
    )
    machine.python(
        """
        import sys
        from huggingface_hub import HfApi
        HfApi().create_repo(sys.argv[1])
        HfApi().upload_folder(repo_id=sys.argv[1], folder_path=sys.argv[2])
        """,
        REPO_ID,
        DEMO_MODEL,
    )
    server.gatehouse("model", "set", REPO_ID, "--precision", "exact")
    return f"{server.url}/models/{REPO_ID}"


@pytest.fixture(scope="module")
def reference() -> dict[str, tuple[list[int], str]]:
    """Greedy continuations by `transformers`: token ids and text, by prompt."""
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(DEMO_MODEL)
    model = AutoModelForCausalLM.from_pretrained(DEMO_MODEL, dtype=torch.float32)
    found = {}
    for prompt in PROMPTS:
        inputs = tokenizer(prompt, return_tensors="pt")
        output = model.generate(**inputs, do_sample=False, max_new_tokens=24)[0]
        new = output[inputs.input_ids.shape[1] :]
        found[prompt] = (new.tolist(), tokenizer.decode(new, skip_special_tokens=True))
    return found


def run_client(client: StockClient, model_url: str, program: str, *arguments: str) -> Any:
    """Run a program in which `client` is an InferenceClient of the model."""
    opening = (
        "import json, os, sys\nfrom huggingface_hub import InferenceClient\n"
        "client = InferenceClient(model=sys.argv[1], token=os.environ['HF_TOKEN'])\n"
    )
    return client.python(opening + program, model_url, *arguments)


def post(
    model_url: str, person: Person, body: Any, path: str = "", **headers: str
) -> httpx.Response:
    """What programs without a client send."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    names["Authorization"] = f"Bearer {person.read_token}"
    return httpx.post(f"{model_url}{path}", json=body, headers=names, timeout=120)


def test_greedy_answers_equal_transformers_token_for_token(
    stranger: StockClient, model_url: str, reference: dict[str, tuple[list[int], str]]
) -> None:
    program = """
def answer(prompt):
    output = client.text_generation(prompt, max_new_tokens=24, details=True)
    ids = [token.id for token in output.details.tokens]
    return ids, output.generated_text
prompts = json.loads(sys.argv[2])
print(json.dumps([answer(prompt) for prompt in prompts]))
"""
    answers = run_client(stranger, model_url, program, json.dumps(PROMPTS))
    for prompt, (ids, text) in zip(PROMPTS, answers, strict=True):
        assert ids == reference[prompt][0], prompt
        assert text == reference[prompt][1], prompt


def test_eight_greedy_answers_at_once_equal_transformers(
    stranger: StockClient, model_url: str, reference: dict[str, tuple[list[int], str]]
) -> None:
    program = """
from concurrent.futures import ThreadPoolExecutor
client.headers["x-use-cache"] = "0"
def answer(prompt):
    output = client.text_generation(prompt, max_new_tokens=24, details=True)
    return [token.id for token in output.details.tokens]
prompts = json.loads(sys.argv[2])
with ThreadPoolExecutor(8) as pool:
    print(json.dumps(list(pool.map(answer, prompts))))
"""
    prompts = PROMPTS[:8]
    answers = run_client(stranger, model_url, program, json.dumps(prompts))
    assert answers == [reference[prompt][0] for prompt in prompts]


def test_parameters_do_what_their_names_say(
    stranger: StockClient, model_url: str, reference: dict[str, tuple[list[int], str]]
) -> None:
    prompt = PROMPTS[0]
    program = """
prompt = sys.argv[2]
generate = client.text_generation
print(json.dumps({
    "plain": generate(prompt),
    "short": generate(prompt, max_new_tokens=3, details=True).details.generated_tokens,
    "full": generate(prompt, max_new_tokens=24, return_full_text=True),
    "cold": generate(prompt, max_new_tokens=24, temperature=0.0),
    "seeded": [generate(prompt, do_sample=True, temperature=2.0, seed=s) for s in (1, 1, 2)],
    "stopped": generate(prompt, max_new_tokens=24, stop=[sys.argv[3]], details=True).details
        .finish_reason,
    "narrow": generate(prompt, max_new_tokens=1, do_sample=True, top_p=0.01),
    "penalised": generate(prompt, max_new_tokens=24, repetition_penalty=5.0),
}))
"""
    greedy = reference[prompt][1]
    stop = greedy.split()[1]
    found = run_client(stranger, model_url, program, prompt, stop)
    assert greedy.startswith(found["plain"])
    assert 0 < len(found["plain"]) < len(greedy), "20 tokens when none are asked for"
    assert found["short"] == 3
    assert found["full"] == prompt + greedy
    assert found["cold"] == greedy
    assert greedy.startswith(found["narrow"])
    assert found["seeded"][0] == found["seeded"][1] != found["seeded"][2]
    assert found["stopped"] == "stop_sequence"
    assert found["penalised"] != greedy


def test_the_client_streams_tokens(
    stranger: StockClient, model_url: str, reference: dict[str, tuple[list[int], str]]
) -> None:
    program = """
prompt = sys.argv[2]
pieces = list(client.text_generation(prompt, max_new_tokens=24, stream=True))
events = list(client.text_generation(prompt, max_new_tokens=24, stream=True, details=True))
print(json.dumps([pieces, [e.token.id for e in events], events[-1].generated_text,
                  events[-1].details.finish_reason]))
"""
    ids, text = reference[PROMPTS[0]]
    pieces, streamed, whole, reason = run_client(stranger, model_url, program, PROMPTS[0])
    assert len(pieces) > 5
    assert "".join(pieces).removesuffix("</s>") == text
    assert streamed == ids
    assert whole == text
    assert reason in ("length", "eos_token")


@pytest.mark.parametrize(
    ("path", "extra"), [("/generate_stream", {}), ("", {"stream": True})], ids=["route", "body"]
)
def test_curl_shows_events_while_they_are_made(
    path: str,
    extra: dict[str, bool],
    model_url: str,
    stranger: StockClient,
    reference: dict[str, tuple[list[int], str]],
) -> None:
    body = {"inputs": PROMPTS[1], "parameters": {"max_new_tokens": 24}} | extra
    command = ["curl", "-sN", f"{model_url}{path}", "-H", f"Authorization: Bearer {stranger.token}"]
    command += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        descriptor = curl.stdout.fileno()
        reads = list(iter(lambda: os.read(descriptor, 65536), b""))
    assert curl.returncode == 0
    lines = b"".join(reads).decode().splitlines()
    events = [json.loads(line.removeprefix("data:")) for line in lines if line.startswith("data:")]
    ids, text = reference[PROMPTS[1]]
    assert [event["token"]["id"] for event in events] == ids
    prompt = "" if path else PROMPTS[1]
    assert events[-1]["generated_text"] == prompt + text, "the model's own route adds the prompt"
    assert all(event["generated_text"] is None for event in events[:-1])
    assert len(reads) > 3, "the events came one after the other"


def test_an_answer_is_kept_unless_a_fresh_one_is_asked_for(
    model_url: str, bob: Person, stranger: StockClient
) -> None:
    body = {"inputs": PROMPTS[0], "parameters": {"do_sample": True, "temperature": 2.0}}
    first, second = (post(model_url, bob, body).json() for _ in range(2))
    assert first == second
    fresh = [post(model_url, bob, body, x_use_cache="0").json() for _ in range(4)]
    assert any(answer != first for answer in fresh)
    assert post(model_url, bob, body).json() == fresh[-1], "the newest answer is kept"

    program = """
ask = lambda: client.text_generation(sys.argv[2], do_sample=True, temperature=2.0)
kept = [ask(), ask()]
client.headers["x-use-cache"] = "0"
print(json.dumps([kept, [ask() for _ in range(4)]]))
"""
    kept, fresh_texts = run_client(stranger, model_url, program, PROMPTS[0])
    assert kept[0] == kept[1]
    assert any(text != kept[0] for text in fresh_texts)


def test_the_plain_route_answers_a_list_with_the_prompt_in_front(
    model_url: str, bob: Person, reference: dict[str, tuple[list[int], str]]
) -> None:
    body = {"inputs": PROMPTS[0], "parameters": {"max_new_tokens": 24}}
    answer = post(model_url, bob, body)
    assert answer.json() == [{"generated_text": PROMPTS[0] + reference[PROMPTS[0]][1]}]
    assert answer.headers["content-type"].startswith("application/json")
    assert httpx.post(model_url, json=body, timeout=60).json() == answer.json(), "without a token"


def test_the_chat_template_of_the_model_is_applied(
    model_url: str, stranger: StockClient, reference: dict[str, tuple[list[int], str]]
) -> None:
    program = """
messages = [{"role": "user", "content": "Hello!"}]
answer = client.chat_completion(messages, max_tokens=24, temperature=0)
pieces = client.chat_completion(messages, max_tokens=24, temperature=0, stream=True)
text = "".join(p.choices[0].delta.content or "" for p in pieces if p.choices)
print(json.dumps([answer.choices[0].message.content, answer.usage.completion_tokens, text]))
"""
    content, count, streamed = run_client(stranger, model_url, program)
    assert content == streamed
    assert content
    assert 0 < count <= 24
    assert content.strip() == reference["[INST] Hello! [/INST]"][1].strip()


def test_plans_have_their_own_limits(model_url: str, bob: Person, carol: Person) -> None:
    body = {"inputs": "limits", "parameters": {"max_new_tokens": 1}}
    free, pro = (post(model_url, person, body) for person in (bob, carol))
    for answer in (free, pro):
        assert answer.headers["RateLimit"].startswith('"')
        assert ";r=" in answer.headers["RateLimit"]

    def quota(answer: httpx.Response) -> int:
        fields = answer.headers["RateLimit-Policy"].split(";")
        return next(int(field[2:]) for field in fields if field.startswith("q="))

    assert quota(pro) > quota(free) > 0


@pytest.mark.parametrize(
    ("body", "statuses"),
    [
        (b"{not json", {400, 422}),
        (b"", {400, 422}),
        (b'{"parameters": {}}', {400, 422}),
        (b'{"inputs": 5}', {400, 422}),
        (b'{"inputs": "a", "parameters": {"temperature": -1}}', {422}),
        (b'{"inputs": "a", "parameters": {"top_p": 7}}', {422}),
        (b'{"inputs": "a", "parameters": {"top_k": -2}}', {422}),
        (b'{"inputs": "a", "parameters": {"max_new_tokens": -1}}', {422}),
        (b'{"inputs": "a", "parameters": {"max_new_tokens": "many"}}', {422}),
        (b'{"inputs": "a", "parameters": {"seed": "x"}}', {422}),
        (json.dumps({"inputs": "word " * 5000}).encode(), {422}),
        (b'{"inputs": "' + b"a" * 3_000_000 + b'"}', {413}),
        (b"[" * 100_000, {400, 422}),
    ],
    ids=range(13),
)
def test_bad_input_is_answered_with_a_sentence(
    body: bytes, statuses: set[int], model_url: str, bob: Person
) -> None:
    headers = {"Authorization": f"Bearer {bob.read_token}", "Content-Type": "application/json"}
    answer = httpx.post(model_url, content=body, headers=headers, timeout=60)
    assert answer.status_code in statuses
    assert len(answer.json()["error"]) > 10
    still = post(model_url, bob, {"inputs": "after", "parameters": {"max_new_tokens": 1}})
    assert still.status_code == 200


def test_a_model_that_is_not_there_and_one_that_cannot_run_are_told_apart(
    server: HubServer, owner: StockClient, bob: Person
) -> None:
    owner.python("from huggingface_hub import HfApi; HfApi().create_repo('alice/nothing-in-it')")
    assert post(f"{server.url}/models/alice/none", bob, {"inputs": "a"}).status_code == 404
    empty = post(f"{server.url}/models/alice/nothing-in-it", bob, {"inputs": "a"})
    assert 400 <= empty.status_code < 500
    assert empty.json()["error"]


def test_a_private_model_runs_for_its_owner_alone(
    server: HubServer, model_url: str, owner: StockClient, alice: Person, bob: Person
) -> None:
    owner.python(
        """
        import sys
        from huggingface_hub import HfApi
        HfApi().create_repo("alice/private-model", private=True)
        HfApi().upload_folder(repo_id="alice/private-model", folder_path=sys.argv[1])
        """,
        DEMO_MODEL,
    )
    url = f"{server.url}/models/alice/private-model"
    body = {"inputs": PROMPTS[0], "parameters": {"max_new_tokens": 4}}
    assert post(url, bob, body).status_code == 404
    assert post(url, alice, body).status_code == 200
    assert post(url, bob, body).status_code == 404, "nor from the cache"
    assert httpx.post(url, json=body).status_code == 404
