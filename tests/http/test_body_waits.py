"""Clients that stop sending a body are told so; those that go on sending are not cut off."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from factories import Hub, bearer
from starlette.types import Message

from gatehouse.http import bodies
from gatehouse.http.body_waits import BodyStalled, BodyWaits

pytestmark = pytest.mark.anyio

_AGENT = "OpenAI/Python 3.54.0"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def _nothing() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def _piece() -> Message:
    return {"type": "http.request", "body": b"a"}


async def test_a_body_that_stalls_is_given_up() -> None:
    waits = BodyWaits(look_seconds=0.01)
    with pytest.raises(BodyStalled, match=r"nothing came for 0\.02 seconds"):
        await waits.next_message(_nothing, 0.02)
    # The task itself was not cancelled: it has an answer to send.
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_slow_body_is_not_cut_off() -> None:
    waits = BodyWaits(look_seconds=0.01)

    async def slowly() -> Message:
        await asyncio.sleep(0.06)
        return await _piece()

    for _ in range(3):
        assert (await waits.next_message(slowly, 0.1))["body"] == b"a"


async def test_only_the_stalled_one_of_several_is_given_up() -> None:
    waits = BodyWaits(look_seconds=0.01)
    others = [asyncio.create_task(waits.next_message(_nothing, 30.0)) for _ in range(3)]
    with pytest.raises(BodyStalled):
        await waits.next_message(_nothing, 0.02)
    assert not any(task.done() for task in others)
    for task in others:
        task.cancel()
    # Who was cancelled from elsewhere stays so.
    ended = await asyncio.gather(*others, return_exceptions=True)
    assert [type(error) for error in ended] == [asyncio.CancelledError] * 3


async def test_a_piece_that_is_there_sets_no_timer_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits = BodyWaits(look_seconds=5)
    await waits.next_message(_piece, 30.0)
    loop = asyncio.get_running_loop()

    def refuse(*_: object) -> None:
        raise AssertionError("a timer for each piece")

    monkeypatch.setattr(loop, "call_later", refuse)
    for _ in range(100):
        await waits.next_message(_piece, 30.0)


async def test_nothing_is_looked_at_when_nobody_waits() -> None:
    waits = BodyWaits(look_seconds=0.01)
    await waits.next_message(_piece, 30.0)
    await asyncio.sleep(0.03)
    assert waits._looks_next is None


async def _answer(hub: Hub, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """What a client gets that sends its headers, a first piece, and no more."""
    sent: list[Message] = []

    async def messages() -> AsyncGenerator[Message]:
        yield {"type": "http.request", "body": b'{"inputs": ', "more_body": True}
        await asyncio.Event().wait()

    pieces = messages()

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("hub.test", 80),
        "state": {},
    }
    async with asyncio.timeout(10):
        await hub.app(scope, lambda: anext(pieces), send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


async def test_every_surface_answers_408_in_its_own_form(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "_STALLED_SECONDS", 0.01)
    monkeypatch.setattr(bodies, "_STALLED_UPLOAD_SECONDS", 0.01)
    olga = hub.make_user("olga")
    hub.make_repo(olga, "model")
    sentence = "The body did not arrive: nothing came for 0.01 seconds."
    plain = f'{{"error":"{sentence}"}}'.encode()
    openai = (
        f'{{"error":{{"message":"{sentence}","type":"invalid_request_error","param":null,'
        '"code":"request_timeout"}}'
    ).encode()
    for path in (
        "/api/repos/create",
        "/api/models/olga/model/preupload/main",
        "/api/models/olga/model/commit/main",
        "/olga/model.git/info/lfs/objects/batch",
        "/olga/model.git/git-upload-pack",
        "/models/olga/model",
        "/models/olga/model/v1/chat/completions",
    ):
        assert await _answer(hub, path, olga.write) == (408, plain), path
    assert await _answer(hub, "/v1/chat/completions", olga.write) == (408, openai)
    as_openai = olga.write | {"user-agent": _AGENT}
    assert await _answer(hub, "/models/olga/model/v1/completions", as_openai) == (408, openai)


async def test_strangers_are_refused_before_their_body_is_awaited(hub: Hub) -> None:
    status, _ = await _answer(hub, "/models/olga/none", bearer("hf_unknown"))
    assert status == 401
