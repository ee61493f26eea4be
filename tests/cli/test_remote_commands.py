"""`gatehouse remote`, as an administrator types it, with a server that answers in this process."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from factories import Hub
from remote_upstream import Asked, Script, text_chunk, upstream
from typer.testing import CliRunner, Result

from gatehouse.cli.main import app
from gatehouse.engines.remote.base import RemoteKind, RouteAbilities
from gatehouse.inference.remote.registrations import RemoteEngine, RemoteEngines
from gatehouse.inference.remote.sealing import Seal


def run(hub: Hub, *arguments: str, stdin: str = "") -> Result:
    folder = str(hub.settings.data_dir)
    command = ["remote", *arguments, "--data-dir", folder]
    return CliRunner().invoke(app, command, input=stdin, env={"COLUMNS": "200"})


@pytest.fixture(autouse=True)
def _model(hub: Hub) -> None:
    hub.make_repo(hub.make_user("alice"), "model")


def registered(hub: Hub) -> list[RemoteEngine]:
    return RemoteEngines(hub.database, Seal(b""), hub.clock).all()


async def only_texts(asked: Asked) -> None:
    """A server that lists one model and completes texts."""
    if asked.path == "/v1/models":
        await asked.answer({"data": [{"id": "far", "max_model_len": 777}]})
    elif asked.path == "/v1/completions" and asked.headers.get("authorization") == "Bearer k":
        await asked.head()
        await asked.event(text_chunk("Hi", "stop"))
    else:
        await asked.answer({"error": "no"}, "404 Not Found")


@contextmanager
def running(script: Script) -> Iterator[str]:
    """The server's address, while it runs on a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    manager = upstream(script)
    try:
        yield asyncio.run_coroutine_threadsafe(manager.__aenter__(), loop).result(10).url
    finally:
        asyncio.run_coroutine_threadsafe(manager.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_server_is_asked_what_it_can_do_and_added(hub: Hub) -> None:
    with running(only_texts) as url:
        arguments = ("add", "alice/model", "--url", f"{url}/v1", "--model", "far", "--key-stdin")
        outcome = run(hub, *arguments, stdin="k\n")
        assert outcome.exit_code == 0, outcome.output
        assert "texts: yes\nconversations: no\n" in outcome.stdout
        assert "context length: 777" in outcome.stdout
        (engine,) = registered(hub)
        assert (engine.url, engine.kind, engine.model_name) == (url, RemoteKind.OPENAI, "far")
        assert engine.context_length == 777
        assert engine.abilities.text == RouteAbilities(logprobs=False, usage=True)
        assert engine.abilities.chat is None
        listed = run(hub, "list").stdout
        assert "alice/model" in listed
        assert url in listed
        assert run(hub, "check", "alice/model").exit_code == 0
    (again,) = registered(hub)
    assert again.version != engine.version
    assert run(hub, "remove", "alice/model").exit_code == 0
    assert registered(hub) == []


@pytest.mark.parametrize(
    ("model", "key", "sentence"),
    [
        ("other", "k", "`other` is none of them"),
        ("far", "wrong", "neither completes texts nor conversations"),
    ],
)
def test_a_server_that_does_not_fit_is_not_added(
    hub: Hub, model: str, key: str, sentence: str
) -> None:
    with running(only_texts) as url:
        arguments = ("add", "alice/model", "--url", url, "--model", model, "--key-stdin")
        outcome = run(hub, *arguments, stdin=f"{key}\n")
    assert outcome.exit_code == 2
    assert sentence in outcome.stderr
    assert registered(hub) == []


def test_nobody_is_asked_when_told_so(hub: Hub) -> None:
    url = "http://192.0.2.1:8000"
    arguments = ("add", "alice/model", "--url", url, "--no-check", "--kind", "tgi")
    outcome = run(hub, *arguments, "--context-length", "99")
    assert outcome.exit_code == 0
    (engine,) = registered(hub)
    assert (engine.kind, engine.context_length, engine.sealed_key) == (RemoteKind.TGI, 99, None)
    assert engine.model_name == "alice/model"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["add", "alice/model", "--url", "nonsense"], "must be an address"),
        (["add", "alice/model", "--url", "http://h", "--no-check"], "give `--context-length`"),
        (["add", "alice/model", "--url", "http://h", "--key-stdin"], "No key"),
        (["add", "alice/other", "--url", "http://h"], "alice/other"),
        (["add", "nonsense", "--url", "http://h"], "namespace/name"),
        (["check", "alice/model"], "No other server runs alice/model"),
        (["remove", "alice/model"], "No other server runs alice/model"),
    ],
)
def test_mistakes_end_in_one_sentence(hub: Hub, arguments: list[str], sentence: str) -> None:
    outcome = run(hub, *arguments)
    assert outcome.exit_code == 2
    assert sentence in outcome.stderr
    assert "Traceback" not in outcome.output
