"""Who is held while a model loads, and who is told at once: the contract's table, row by row."""

import pytest

from gatehouse.api.inference.patience import Patience, find_patience

HUB = "unknown/None; hf_hub/{}; python/3.11"
HELD = Patience(60.0)
AT_ONCE = Patience(0.0)


def patience(
    headers: dict[str, str], options: object = None, *, is_stream: bool = False
) -> Patience:
    return find_patience(headers, options, is_stream=is_stream, cold_wait_seconds=0.0)


@pytest.mark.parametrize(
    ("user_agent", "expected"),
    [
        (HUB.format("0.17.3"), AT_ONCE),
        (HUB.format("0.23.5"), AT_ONCE),
        (HUB.format("0.28.1"), AT_ONCE),
        (HUB.format("0.29.3"), HELD),
        (HUB.format("0.36.2"), HELD),
        (HUB.format("1.3.0"), HELD),
        (HUB.format("2.4.0"), HELD),
        (HUB.format("10.0.0"), HELD),
        ("@huggingface/inference/2.8.1", AT_ONCE),
        ("@huggingface/inference/3.15.0", HELD),
        ("@huggingface/inference/4.13.30", HELD),
        ("OpenAI/Python 3.54.0", HELD),
        ("AsyncOpenAI/Python 3.54.0", HELD),
        ("OpenAI/JS 6.1.0", HELD),
        ("curl/8.5.0", AT_ONCE),
        ("python-requests/2.32", AT_ONCE),
        ("", AT_ONCE),
    ],
)
def test_clients_are_told_apart_by_their_user_agent(user_agent: str, expected: Patience) -> None:
    assert patience({"user-agent": user_agent}) == expected


def test_streams_are_held_whoever_asks() -> None:
    assert patience({"user-agent": "curl/8.5.0"}, is_stream=True) == HELD


def test_what_the_caller_asks_for_beats_what_the_client_is() -> None:
    agent = {"user-agent": "curl/8.5.0"}
    for headers, options in [
        ({"x-wait-for-model": "1"}, None),
        ({"x-wait-for-model": "TRUE"}, None),
        ({}, {"wait_for_model": True}),
    ]:
        assert patience(agent | headers, options) == Patience(600.0)
    for headers, options in [({"x-load-model": "0"}, None), ({}, {"dont_load_model": True})]:
        assert patience(agent | headers, options) == Patience(0.0, may_load=False)
        assert not patience(headers, options, is_stream=True).may_load
    nothing: tuple[object, ...] = ({"wait_for_model": "yes"}, ["wait_for_model"], None, 3)
    for unread in nothing:
        assert patience(agent, unread) == AT_ONCE


def test_operator_may_let_people_wait() -> None:
    found = find_patience({}, None, is_stream=False, cold_wait_seconds=20.0)
    assert found == Patience(20.0)
    agent = {"user-agent": HUB.format("2.4.0")}
    assert find_patience(agent, None, is_stream=False, cold_wait_seconds=20.0) == HELD
