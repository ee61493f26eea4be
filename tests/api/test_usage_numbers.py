"""What is booked is what was sent: a real model, every way of asking it."""

import json
from typing import Any

import anyio
import httpx
import pytest
from factories import Hub, Person

from gatehouse.identity.actors import Plan
from gatehouse.identity.permissions import TokenRole
from gatehouse.identity.plans import PlanName
from gatehouse.inference.plans.usage import Figures
from gatehouse.observability.audit import OPERATOR

pytestmark = pytest.mark.usefixtures("olga")

OPEN = "/models/olga/open"
_numbers = iter(range(1000))


@pytest.fixture
def eve(house: Hub) -> Person:
    """Somebody whose numbers nobody else touches."""
    return house.make_user(f"eve{next(_numbers)}")


def ask(house: Hub, person: Person, body: dict[str, Any], path: str = OPEN, **more: str) -> Any:
    headers = {name.replace("_", "-"): value for name, value in more.items()}
    return house.client.post(path, json=body, headers=person.read | headers)


def used(house: Hub, person: Person) -> Figures:
    house.services.ledger.flush()
    lines = house.services.usage.lines(user_id=person.user.id)
    assert {line.token for line in lines} <= {"read token"}
    return sum((line.figures for line in lines), Figures())


def prompt(text: str, **parameters: Any) -> dict[str, Any]:
    return {"inputs": text, "parameters": {"max_new_tokens": 5, **parameters}}


def numbers(figures: Figures) -> tuple[int, int, int]:
    """Requests, cached ones of them, generated tokens."""
    return figures.num_requests, figures.num_cached_requests, figures.num_generated_tokens


def test_a_whole_answer_is_booked_as_its_headers_say(house: Hub, eve: Person) -> None:
    answer = ask(house, eve, prompt("the cat"), x_use_cache="0")
    booked = used(house, eve)
    assert booked.num_generated_tokens == int(answer.headers["x-generated-tokens"]) == 5
    assert booked.num_prompt_tokens == int(answer.headers["x-prompt-tokens"]) > 0
    assert booked.seconds > 0


def test_a_stream_is_booked_as_it_was_sent(house: Hub, eve: Person) -> None:
    answer = ask(house, eve, prompt("the cat") | {"stream": True})
    assert numbers(used(house, eve)) == (1, 0, answer.text.count("data:")) == (1, 0, 5)


def test_streams_say_what_is_left(house: Hub, eve: Person) -> None:
    answer = ask(house, eve, prompt("the cat") | {"stream": True})
    assert answer.headers["ratelimit"].startswith('"inference";r=99999;t=')
    assert answer.headers["ratelimit-policy"] == '"fixed window";"inference";q=100000;w=3600'


def test_a_chat_is_booked_as_its_usage_says(house: Hub, eve: Person) -> None:
    body = {"messages": [{"role": "user", "content": "the cat"}], "max_tokens": 4}
    answer = ask(house, eve, body, f"{OPEN}/v1/chat/completions").json()
    booked = used(house, eve)
    assert booked.num_generated_tokens == answer["usage"]["completion_tokens"]
    assert booked.num_prompt_tokens == answer["usage"]["prompt_tokens"]


def test_a_batch_is_a_request_for_each_prompt_and_all_its_tokens(house: Hub, eve: Person) -> None:
    body = {"inputs": ["the cat", "a dog"], "parameters": {"max_new_tokens": 3}}
    ask(house, eve, body, x_use_cache="0")
    assert numbers(used(house, eve)) == (2, 0, 6)


def test_all_of_several_tries_are_booked(house: Hub, eve: Person) -> None:
    ask(house, eve, prompt("the cat", best_of=2, do_sample=True), x_use_cache="0")
    assert numbers(used(house, eve)) == (1, 0, 10)


def test_a_kept_answer_is_a_request_without_tokens(house: Hub, eve: Person) -> None:
    body = prompt("the cat sat on a mat")
    ask(house, eve, body)
    answer = ask(house, eve, body)
    assert answer.headers["x-cache"] == "HIT"
    assert numbers(used(house, eve)) == (2, 1, 5)


def test_a_refused_prompt_is_a_request_without_tokens(house: Hub, eve: Person) -> None:
    answer = ask(house, eve, prompt("the cat " * 2000))
    assert answer.status_code == 422
    assert numbers(used(house, eve)) == (1, 0, 0)


def test_a_model_that_is_not_loaded_costs_nothing(house: Hub, eve: Person) -> None:
    answer = ask(house, eve, prompt("the cat"), "/models/olga/idle", x_load_model="0")
    assert answer.status_code == 503
    assert numbers(used(house, eve)) == (0, 0, 0)
    assert house.services.plans.limits_of(eve.actor).requests_per_hour == 100_000
    second = ask(house, eve, prompt("the cat"))
    assert second.headers["ratelimit"].startswith('"inference";r=99999;')


def test_tokens_of_the_day_come_to_what_was_generated(house: Hub, eve: Person) -> None:
    house.services.users.set_plan(eve.user.id, Plan.ENTERPRISE, by=OPERATOR)
    house.services.plans.set(PlanName.ENTERPRISE, {"tokens_per_day": 12}, by=OPERATOR)
    try:
        statuses = []
        for number in range(4):
            # Reserves nine and generates five, or as many as fit.
            body = {"inputs": f"the cat {number}", "parameters": {"max_new_tokens": 4}}
            statuses.append(ask(house, eve, body).status_code)
            house.services.ledger.flush()
        assert statuses == [200, 200, 200, 429]
        assert used(house, eve).num_generated_tokens == 12
    finally:
        house.services.plans.reset(PlanName.ENTERPRISE, by=OPERATOR)


def test_a_stream_that_is_left_is_booked_as_far_as_it_went(house: Hub, eve: Person) -> None:
    body = json.dumps(prompt("the cat", max_new_tokens=40) | {"stream": True}).encode()
    portal = house.client.portal
    assert portal is not None
    num_sent = portal.call(_leave_after, house, eve, body, 3)
    num_booked = used(house, eve).num_generated_tokens
    assert 3 <= num_sent <= num_booked < 40


async def _leave_after(house: Hub, person: Person, body: bytes, num_events: int) -> int:
    """Ask for a stream and go after some events; returns how many came."""
    has_enough = anyio.Event()
    received = [{"type": "http.request", "body": body, "more_body": False}]
    num_sent = 0

    async def receive() -> dict[str, Any]:
        if received:
            return received.pop()
        await has_enough.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal num_sent
        num_sent += message.get("body", b"").count(b"data:")
        if num_sent >= num_events:
            has_enough.set()

    token = person.read["Authorization"].encode()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": OPEN,
        "raw_path": OPEN.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"hub.test"), (b"authorization", token)],
        "client": ("127.0.0.1", 1),
        "server": ("hub.test", 80),
    }
    await house.app(scope, receive, send)
    return num_sent


def test_calls_under_way_are_counted_over_all_of_a_callers_tokens(house: Hub, eve: Person) -> None:
    house.services.users.set_plan(eve.user.id, Plan.PRO, by=OPERATOR)
    house.services.plans.set(PlanName.PRO, {"num_concurrent": 2}, by=OPERATOR)
    other_token = house.make_token(eve.user, TokenRole.READ, "second")
    portal = house.client.portal
    assert portal is not None
    try:
        statuses = portal.call(_at_once, house, [eve.read, other_token] * 4)
    finally:
        house.services.plans.reset(PlanName.PRO, by=OPERATOR)
    assert sorted(set(statuses)) == [200, 429]
    assert 2 <= statuses.count(200) < 8
    house.services.ledger.flush()
    lines = house.services.usage.lines(user_id=eve.user.id)
    assert sum(line.figures.num_requests for line in lines) == statuses.count(200)


async def _at_once(house: Hub, credentials: list[dict[str, str]]) -> list[int]:
    """Ask together with each credential; returns the statuses."""
    statuses: list[int] = []
    transport = httpx.ASGITransport(app=house.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://hub.test") as client:

        async def ask_one(headers: dict[str, str]) -> None:
            body = prompt("the cat", max_new_tokens=40)
            answer = await client.post(
                OPEN, json=body, headers=headers | {"x-use-cache": "0"}, timeout=60
            )
            statuses.append(answer.status_code)

        async with anyio.create_task_group() as tasks:
            for headers in credentials:
                tasks.start_soon(ask_one, headers)
    return statuses
