"""The two people of most flows: an owner, and somebody with no right to what is hers."""

import pytest
from factories import Hub, Person


@pytest.fixture
def olivia(hub: Hub) -> Person:
    return hub.make_user("olivia")


@pytest.fixture
def mallory(hub: Hub) -> Person:
    return hub.make_user("mallory")
