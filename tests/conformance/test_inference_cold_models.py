"""A model that is not in memory, on a hub that holds back nobody who can wait by themselves."""

import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import httpx
import openai
import pytest
from client_process import ClientError, ClientProcess, NewProcess, node_process, python_process
from hub_server import HubServer
from served_model import ServedModel, push_model
from written_model import ANSWER, COUNTED

OPENING = """
from huggingface_hub import InferenceClient

def client_of(url, token, **options):
    return InferenceClient(model=url, token=token, **options)
"""
NODE_OPENING = """
const clientOf = (endpointUrl, token) => new inference.InferenceClient(token, { endpointUrl })
return { clientOf }
"""
TIMEOUT = 60
numbers = count()


@pytest.fixture(scope="module")
def cold_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """A hub as it is out of the box: `HubServer` waits for models that others load."""
    server = HubServer(tmp_path_factory.mktemp("cold"), cold_model_wait_seconds="0")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def cold(cold_server: HubServer, written_folder: Path) -> ServedModel:
    """A model that nobody has asked for yet."""
    return push_model(cold_server.person("alice"), f"cold{next(numbers)}", written_folder)


@pytest.fixture
def token(cold_server: HubServer) -> str:
    return cold_server.person("alice").read_token


@pytest.mark.parametrize("packages", [None, "hub-0.36", "hub-0.23"])
def test_no_python_client_fails_for_it(
    packages: str | None, new_process: NewProcess, cold: ServedModel, token: str
) -> None:
    # 0.23 asks again each second; the others would raise at the first 503.
    client = new_process(python_process, None, OPENING, packages)
    program = "return client_of(url, token).text_generation('One')"
    assert client.ask(program, url=cold.url, token=token) == COUNTED


def test_the_openai_client_is_held(cold: ServedModel, token: str) -> None:
    with openai.OpenAI(base_url=f"{cold.url}/v1", api_key=token, max_retries=0) as client:
        answer = client.chat.completions.create(
            model="any", messages=[{"role": "user", "content": "Why?"}], temperature=0
        )
    assert answer.choices[0].message.content == ANSWER


def test_node_asks_once(new_process: NewProcess, cold: ServedModel, token: str) -> None:
    client = new_process(node_process, None, NODE_OPENING)
    program = """
    let statuses = []
    const counting = async (...given) => {
      const answer = await fetch(...given)
      statuses.push(answer.status)
      return answer
    }
    const asked = { inputs: 'One', parameters: { temperature: 0 } }
    const answer = await clientOf(url, token).textGeneration(asked, { fetch: counting })
    return [answer.generated_text, statuses]
    """
    assert client.ask(program, url=cold.url, token=token) == [COUNTED, [200]]


def test_a_stream_is_held(cold: ServedModel, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    body = {"inputs": "One", "stream": True}
    answer = httpx.post(cold.url, json=body, headers=headers, timeout=TIMEOUT)
    assert answer.status_code == 200
    assert COUNTED in answer.text


def test_others_are_told_when_to_come_back(cold: ServedModel, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    before = httpx.get(f"{cold.hub.url}/v1/models", headers=headers, timeout=TIMEOUT)
    loading = ask(cold, token)
    assert loading.status_code == 503
    assert loading.json()["error"] == f"Model {cold.name} is currently loading"
    assert loading.json()["estimated_time"] > 0
    assert int(loading.headers["retry-after"]) >= 1
    waited = ask(cold, token, **{"x-wait-for-model": "1"})
    assert waited.json() == [{"generated_text": f"One{COUNTED}"}]
    assert remaining(loading) == remaining(before), "what is only told is not counted"
    assert remaining(waited) == remaining(loading) - 1


def test_a_caller_may_forbid_to_load(cold: ServedModel, token: str) -> None:
    refused = ask(cold, token, **{"x-load-model": "0"})
    assert refused.status_code == 503
    headers = {"Authorization": f"Bearer {token}"}
    assert httpx.get(cold.url, headers=headers, timeout=TIMEOUT).json()["loaded"] is False


def ask(model: ServedModel, token: str, **headers: str) -> httpx.Response:
    return httpx.post(
        model.url,
        json={"inputs": "One"},
        headers={"Authorization": f"Bearer {token}"} | headers,
        timeout=TIMEOUT,
    )


def remaining(answer: httpx.Response) -> int:
    parts = answer.headers["ratelimit"].split(";")
    return next(int(part[2:]) for part in parts if part.startswith("r="))


def test_a_loop_that_asks_at_once_again_is_slowed_down(
    new_process: NewProcess, cold: ServedModel, token: str
) -> None:
    """Even when it forbids loading, as the client repeats a 503 for ever."""
    client: ClientProcess = new_process(node_process, None, NODE_OPENING)
    program = """
    let count = 0
    const stubborn = async (url, info) => {
      if (++count > 3) throw new Error(`${count - 1} times`)
      return fetch(url, { ...info, headers: { ...info.headers, 'x-load-model': '0' } })
    }
    const options = { fetch: stubborn }
    return await clientOf(url, token).textGeneration({ inputs: 'One' }, options)
    """
    started = time.monotonic()
    with pytest.raises(ClientError, match="3 times"):
        client.ask(program, url=cold.url, token=token)
    assert time.monotonic() - started > 1.5
