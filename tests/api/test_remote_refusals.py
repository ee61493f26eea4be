"""What a caller is told when the server that runs a model fails: the contract's status and type."""

import json

import pytest

from gatehouse.api.inference.answers import error_answer
from gatehouse.core.errors import GatehouseError
from gatehouse.inference.errors import HostLost, ModelOverloaded, ModelTimedOut
from gatehouse.inference.remote.errors import KeyUnreadable, RemoteRefuses, RemoteUnreachable


@pytest.mark.parametrize(
    ("error", "status", "error_type"),
    [
        (RemoteUnreachable("org/name"), 503, None),
        (ModelTimedOut("org/name"), 504, None),
        (ModelOverloaded(), 429, "overloaded"),
        (RemoteRefuses("the server that runs the model failed"), 424, "generation"),
        (HostLost(), 500, "incomplete_generation"),
        (KeyUnreadable("org/name"), 503, None),
    ],
)
def test_each_failure_has_its_status_and_type(
    error: GatehouseError, status: int, error_type: str | None
) -> None:
    answer = error_answer(error, {})
    assert answer.status_code == status
    assert json.loads(bytes(answer.body)).get("error_type") == error_type
    assert status != 503 or answer.headers["retry-after"].isdigit()
