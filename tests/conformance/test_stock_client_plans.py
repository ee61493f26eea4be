"""A free and a PRO user at the same models, through the stock client; limits hit and shown."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hub_server import HubServer, Person
from served_model import ServedModel, push_model
from stock_client import StockClient

NewClient = Callable[..., StockClient]

# Nobody else on the shared server has this plan, so that it can be edited here.
_PLAN = "enterprise"
_EDITS_SEEN_SECONDS = 2.5
_GENERATE = """
    import json, os, sys
    from huggingface_hub import InferenceClient
    from huggingface_hub.errors import HfHubHTTPError, ValidationError
    client = InferenceClient(model=sys.argv[1], token=os.environ['HF_TOKEN'], timeout=60)
    outcomes = []
    for number in range(int(sys.argv[2])):
        try:
            text = client.text_generation(f"Once {number}", max_new_tokens=4, details=True)
            outcomes.append([200, str(text.details.generated_tokens)])
        except HfHubHTTPError as error:
            outcomes.append([error.response.status_code, str(error)])
        except ValidationError as error:
            outcomes.append([422, str(error)])
    print(json.dumps(outcomes))
"""


@pytest.fixture(scope="module")
def dora(server: HubServer) -> Person:
    return server.person("limited-dora", "--plan", _PLAN)


@pytest.fixture
def edit_plan(server: HubServer) -> Iterator[Callable[..., None]]:
    """Edits Dora's plan; it has its defaults again afterwards."""

    def edit(*options: str) -> None:
        server.gatehouse("plan", "set", _PLAN, *options)
        time.sleep(_EDITS_SEEN_SECONDS)

    yield edit
    server.gatehouse("plan", "reset", _PLAN)
    time.sleep(_EDITS_SEEN_SECONDS)


def test_a_curated_model_is_refused_to_free_users_and_served_to_pro(
    server: HubServer,
    alice: Person,
    bob: Person,
    carol: Person,
    new_client: NewClient,
    written_folder: Path,
) -> None:
    curated = push_model(alice, "curated", written_folder)
    server.gatehouse("plan", "model", "add", curated.name)
    time.sleep(_EDITS_SEEN_SECONDS)
    for url in (curated.url, curated.url.replace("/models/", "/hf-inference/models/")):
        ((status, text),) = new_client(bob.read_token).python(_GENERATE, url, "1")
        assert status == 403
        assert f"Model requires a Pro subscription; check out {server.url}/pricing" in text
    ((status, _),) = new_client(carol.read_token).python(_GENERATE, curated.url, "1")
    assert status == 200


def test_limits_are_hit_and_shown_and_usage_is_what_was_sent(
    server: HubServer,
    dora: Person,
    model: ServedModel,
    new_client: NewClient,
    edit_plan: Callable[..., None],
) -> None:
    edit_plan("--requests-per-hour", "3")
    client = new_client(dora.read_token)
    outcomes = client.python(_GENERATE, model.url, "5")
    assert [status for status, _ in outcomes] == [200, 200, 200, 429, 429]
    # The client rebuilds its text from the two headers.
    assert "you have reached your 'inference' rate limit" in outcomes[-1][1]
    assert "(0/3 requests remaining" in outcomes[-1][1]
    time.sleep(1.5)
    today = datetime.now(UTC).date().isoformat()
    rows = server.gatehouse("usage", "--user", dora.name, "--since", today, "--json").splitlines()
    (row,) = [json.loads(text) for text in rows]
    assert (row["token"], row["model"]) == ("reading", model.name)
    assert row["num_requests"] == 3
    assert row["num_generated_tokens"] == sum(int(text) for status, text in outcomes[:3])


def test_the_largest_answer_is_the_plans(
    dora: Person, model: ServedModel, new_client: NewClient, edit_plan: Callable[..., None]
) -> None:
    edit_plan("--max-new-tokens", "3", "--requests-per-hour", "100000")
    ((status, text),) = new_client(dora.read_token).python(_GENERATE, model.url, "1")
    assert status == 422
    assert "`max_new_tokens` must be <= 3 on your plan" in text
