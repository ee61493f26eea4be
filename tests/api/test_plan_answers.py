"""What callers read of their plan: headers on every answer, and the contract's sentences."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from factories import Hub, Person

from gatehouse.identity.actors import Plan
from gatehouse.identity.plans import PlanName
from gatehouse.observability.audit import OPERATOR

ALLOWANCE = re.compile(r'"(\w+)";r=(\d+);t=(\d+)')
POLICY = re.compile(r'"fixed window";"(\w+)";q=(\d+);w=(\d+)')


@pytest.fixture
def olga(hub: Hub) -> Iterator[Person]:
    """Owns a repository without a model that can run: a request is counted, then refused."""
    olga = hub.make_user("olga")
    hub.make_repo(olga, "empty", files={"config.json": b"{}"})
    yield olga
    hub.services.ledger.close()


def ask(hub: Hub, path: str = "/models/olga/empty", body: Any = None, **headers: str) -> Any:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return hub.client.post(path, json=body or {"inputs": "a"}, headers=sent)


def allowance(answer: Any) -> tuple[str, int, int, int]:
    """Name, quota, what is left, and the window's length."""
    left = ALLOWANCE.fullmatch(answer.headers["ratelimit"])
    policy = POLICY.fullmatch(answer.headers["ratelimit-policy"])
    assert left is not None
    assert policy is not None
    assert left[1] == policy[1]
    assert 1 <= int(left[3]) <= int(policy[3])
    return left[1], int(policy[2]), int(left[2]), int(policy[3])


@pytest.mark.usefixtures("olga")
def test_refusals_tell_what_is_left_and_take_nothing(hub: Hub) -> None:
    for answer, status in (
        (ask(hub, body={"inputs": "a", "parameters": {"temperature": -1}}), 422),
        (ask(hub, "/models/olga/nothing"), 404),
        (ask(hub, authorization="Bearer hf_nonsense"), 401),
        (ask(hub, body={"nothing": 1}), 400),
        (ask(hub, x_hf_bill_to="acme"), 403),
    ):
        if status != 404:
            assert answer.status_code == status
        assert allowance(answer) == ("inference", 60, 60, 3600), answer.text


@pytest.mark.usefixtures("olga")
def test_one_window_for_every_spelling_of_the_address(hub: Hub) -> None:
    hub.services.plans.set(PlanName.ANONYMOUS, {"requests_per_hour": 7}, by=OPERATOR)
    chat = {"messages": [{"role": "user", "content": "a"}]}
    left = [
        allowance(ask(hub, path, body))[2]
        for path, body in (
            ("/models/olga/empty", None),
            ("/hf-inference/models/OLGA/empty/", None),
            ("/models/olga/empty/generate", None),
            ("/models/olga/empty/v1/chat/completions", chat),
            ("/models/olga/empty/generate_stream", None),
            ("/v1/chat/completions", {"model": "Olga/empty:hf-inference"} | chat),
            ("/v1/completions", {"model": "olga/empty", "prompt": "a"}),
        )
    ]
    assert left == [6, 5, 4, 3, 2, 1, 0]
    answer = ask(hub, "/models/Olga/Empty/generate")
    assert answer.status_code == 429
    assert answer.json()["error"] == ("Rate limit reached. Please log in or use a HF access token")
    assert answer.headers["retry-after"] == "3600"
    assert answer.headers["x-should-retry"] == "false"
    assert allowance(answer)[2] == 0


@pytest.mark.usefixtures("olga")
def test_forged_forwarding_headers_change_nothing(hub: Hub) -> None:
    hub.services.plans.set(PlanName.ANONYMOUS, {"requests_per_hour": 2}, by=OPERATOR)
    statuses = [
        ask(hub, x_forwarded_for=f"203.0.113.{n}", x_real_ip=f"203.0.113.{n}").status_code
        for n in range(4)
    ]
    assert statuses == [400, 400, 429, 429]


def test_a_batch_is_a_request_for_each_prompt(hub: Hub, olga: Person) -> None:
    answer = ask(hub, body={"inputs": ["a", "b", "c"]}, **olga.read)
    assert allowance(answer)[1:3] == (300, 297)


def test_tokens_of_the_day_are_reserved_before_anything_runs(hub: Hub, olga: Person) -> None:
    hub.services.plans.set(PlanName.FREE, {"tokens_per_day": 100}, by=OPERATOR)
    body = {"inputs": ["a", "b"], "parameters": {"max_new_tokens": 51}}
    answer = ask(hub, body=body, **olga.read)
    assert answer.status_code == 429
    assert answer.json()["error"].startswith(
        "Rate limit reached. You reached free usage limit (reset daily). "
        "Please subscribe to a plan at http://hub.test/pricing to use the API at this rate"
    )
    assert allowance(answer) == ("tokens", 100, 100, 86400)


def test_curated_models_point_to_the_pricing_page(hub: Hub, olga: Person) -> None:
    repository = hub.make_repo(olga, "powerful", files={"config.json": b"{}"})
    hub.services.pro_models.add(repository, by=OPERATOR)
    for path in ("/models/olga/powerful", "/hf-inference/models/Olga/Powerful/generate"):
        answer = ask(hub, path, **olga.read)
        assert answer.status_code == 403
        assert answer.json()["error"] == (
            "Model requires a Pro subscription; check out http://hub.test/pricing to learn more. "
            "Make sure to include your HF token in your query."
        )
        assert allowance(answer)[2] == 300
    hub.services.users.set_plan(olga.user.id, Plan.PRO, by=OPERATOR)
    assert ask(hub, "/models/olga/powerful", **olga.read).status_code == 400


def test_only_members_may_have_an_organization_billed(hub: Hub, olga: Person) -> None:
    hub.make_organization("acme", olga)
    bob = hub.make_user("bob")
    assert ask(hub, x_hf_bill_to="acme", **olga.read).status_code == 400
    refusals = [
        ask(hub, x_hf_bill_to=name, **person.read)
        for name, person in (("acme", bob), ("nobody", olga))
    ]
    assert {answer.status_code for answer in refusals} == {403}
    assert len({answer.text for answer in refusals}) == 1
    hub.services.ledger.flush()
    (line,) = hub.services.usage.lines()
    assert (line.user, line.organization, line.model) == ("olga", "acme", "olga/empty")


def test_strangers_may_be_kept_out(tmp_path: Path, migrated_database: Path) -> None:
    hub = Hub(tmp_path / "closed", migrated_database, allow_anonymous_inference=False)
    try:
        olga = hub.make_user("olga")
        hub.make_repo(olga, "empty", files={"config.json": b"{}"})
        answer = ask(hub)
        assert answer.status_code == 401
        assert "log in" in answer.json()["error"]
        assert ask(hub, **olga.read).status_code == 400
    finally:
        hub.services.ledger.close()
        hub.close()


def test_an_edited_plan_holds_at_once_in_the_process_that_edited_it(hub: Hub, olga: Person) -> None:
    hub.services.plans.set(PlanName.FREE, {"max_new_tokens": 7}, by=OPERATOR)
    answer = ask(hub, body={"inputs": "a", "parameters": {"max_new_tokens": 8}}, **olga.read)
    assert answer.status_code == 422
    assert "7" in answer.json()["error"]
