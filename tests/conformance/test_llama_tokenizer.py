"""Missions A6 and A7: the genuine Llama 2 tokenizer from a gated repository, in Node and Python."""

from collections.abc import Callable

import pytest
from hub_server import HubServer, Person
from llama_tokenizer import HELLO_WORLD, REPO_ID, publish_tokenizer
from stock_client import ProgramFailed, StockClient
from tokenizer_refusals import assert_gated

NewClient = Callable[..., StockClient]

PYTHON = f"""
    import json
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained("{REPO_ID}")
    print(json.dumps(tokenizer.encode("Hello world!")))
    """
NODE_PROGRAMS = ["encode_with_huggingface.mjs", "encode_with_xenova.mjs"]


@pytest.fixture(scope="module")
def member(server: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Somebody who was let in to the gated repository, which is pushed here."""
    return publish_tokenizer(server, tmp_path_factory.mktemp("llama"))


@pytest.mark.parametrize("program", NODE_PROGRAMS)
def test_node_encodes_hello_world_with_a_token_of_somebody_let_in(
    program: str, member: Person, new_client: NewClient
) -> None:
    assert new_client(member.read_token).node(program) == HELLO_WORLD


@pytest.mark.parametrize("program", NODE_PROGRAMS)
@pytest.mark.parametrize("who", ["anonymous", "a stranger"])
def test_node_is_refused_without_such_a_token(
    program: str, who: str, member: Person, bob: Person, new_client: NewClient
) -> None:
    client = new_client(bob.read_token if who == "a stranger" else None)
    with pytest.raises(ProgramFailed) as caught:
        client.node(program)
    assert "15043" not in caught.value.output
    refusals = ("Unauthorized", "Forbidden", "Could not locate", "not found", "ModelFileNotFound")
    assert any(word in caught.value.errors for word in refusals), caught.value.errors


def test_python_encodes_hello_world_with_two_variables_set(
    member: Person, new_client: NewClient
) -> None:
    assert new_client(member.read_token).python(PYTHON) == HELLO_WORLD


def test_python_is_refused_with_a_token_of_a_stranger_and_with_none(
    member: Person, bob: Person, new_client: NewClient
) -> None:
    assert_gated(new_client(bob.read_token), REPO_ID)
