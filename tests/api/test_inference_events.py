"""Server-sent events without a server: what is sent when, and what a client's leaving ends."""

from collections.abc import AsyncGenerator
from typing import Any

import anyio
import pytest
from starlette.types import Message

from gatehouse.api.inference import events as events_module
from gatehouse.api.inference.answers import error_answer, error_body
from gatehouse.api.inference.events import EventStream
from gatehouse.inference.errors import HostLost, ModelLoading

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Client:
    """The server's two callables, and what came over them."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.has_left = anyio.Event()
        self.num_wanted = 0
        self.has_enough = anyio.Event()

    async def receive(self) -> Message:
        await self.has_left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.messages.append(message)
        if len(self.messages) == self.num_wanted:
            self.has_enough.set()

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


class Events:
    """Gives a few events, then does what it is told, and notes when it is closed."""

    def __init__(self, count: int, then: Exception | None = None, *, hang: bool = False) -> None:
        self.count, self.then, self.hang = count, then, hang
        self.is_closed = False

    async def __call__(self) -> AsyncGenerator[dict[str, Any]]:
        try:
            for number in range(self.count):
                yield {"index": number}
            if self.hang:
                await anyio.sleep_forever()
            if self.then:
                raise self.then
        finally:
            self.is_closed = True


def stream(events: Events, last: bytes = b"") -> EventStream:
    return EventStream(
        events, {"x-a": "b"}, lambda error: error_answer(error, {}), error_body, last
    )


async def test_events_come_in_order_and_then_the_last_bytes() -> None:
    client = Client()
    await stream(Events(2), b"data: [DONE]\n\n")({}, client.receive, client.send)
    assert client.body == b'data: {"index":0}\n\ndata: {"index":1}\n\ndata: [DONE]\n\n'
    headers = dict(client.messages[0]["headers"])
    assert headers[b"content-type"] == b"text/event-stream"
    assert headers[b"x-a"] == b"b"
    assert b"content-length" not in headers
    assert not client.messages[-1].get("more_body", False)


async def test_error_before_the_first_event_has_its_own_status() -> None:
    client = Client()
    await stream(Events(0, ModelLoading("a/b", 3.5)))({"type": "http"}, client.receive, client.send)
    assert client.status == 503
    assert b'"estimated_time":3.5' in client.body


async def test_error_after_the_first_event_is_an_event() -> None:
    client = Client()
    await stream(Events(1, HostLost()))({}, client.receive, client.send)
    assert client.status == 200
    assert client.body.startswith(b'data: {"index":0}\n\ndata: {"error":')
    assert b'"error_type":"incomplete_generation"' in client.body


async def test_slow_start_is_bridged_by_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "_PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(events_module, "_COMMENT_SECONDS", 0.01)
    client, events = Client(), Events(0, hang=True)
    client.num_wanted = 4
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream(events), {}, client.receive, client.send)
        with anyio.fail_after(5):
            await client.has_enough.wait()
        client.has_left.set()
    assert client.status == 200
    assert client.body == b":\n\n" * 3
    assert events.is_closed


async def test_client_that_leaves_ends_the_generator() -> None:
    client, events = Client(), Events(1, hang=True)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream(events), {}, client.receive, client.send)
            await anyio.wait_all_tasks_blocked()
            assert client.body == b'data: {"index":0}\n\n'
            client.has_left.set()
    assert events.is_closed


class SlowClient(Client):
    """Takes a while to take a message, and one at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.is_taking = False

    async def send(self, message: Message) -> None:
        assert not self.is_taking
        self.is_taking = True
        await anyio.sleep(0.005)
        self.is_taking = False
        await super().send(message)


async def test_comments_and_events_never_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "_PATIENCE_SECONDS", 0.001)
    monkeypatch.setattr(events_module, "_COMMENT_SECONDS", 0.001)

    async def events() -> AsyncGenerator[dict[str, Any]]:
        for number in range(20):
            yield {"index": number}
            await anyio.sleep(0.003 * (number % 4))
        raise HostLost

    client = SlowClient()
    answer = EventStream(events, {}, lambda error: error_answer(error, {}), error_body)
    await answer({"type": "http"}, client.receive, client.send)
    parts = client.body.split(b"\n\n")
    assert parts.pop() == b""
    assert b":" in parts
    events_sent = [part for part in parts if part != b":"]
    assert events_sent[:20] == [b'data: {"index":%d}' % number for number in range(20)]
    assert b'"error_type":"incomplete_generation"' in events_sent[20]


async def test_error_while_the_first_comment_goes_out_is_an_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events_module, "_PATIENCE_SECONDS", 0.001)

    async def events() -> AsyncGenerator[dict[str, Any]]:
        await anyio.sleep(0.006)  # the comment takes ten milliseconds to go out
        raise HostLost
        yield {}

    client = SlowClient()
    answer = EventStream(events, {}, lambda error: error_answer(error, {}), error_body)
    await answer({"type": "http"}, client.receive, client.send)
    assert [message["type"] for message in client.messages].count("http.response.start") == 1
    assert client.status == 200
    assert client.body.startswith(b':\n\ndata: {"error":')


async def test_no_comment_follows_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "_PATIENCE_SECONDS", 0.003)
    client = SlowClient()
    await stream(Events(0, ModelLoading("a/b", 3.5)))({"type": "http"}, client.receive, client.send)
    assert client.status == 503
    assert b":\n\n" not in client.body
    assert len(client.messages) == 2


async def test_events_that_came_at_once_are_sent_at_once() -> None:
    async def events() -> AsyncGenerator[dict[str, Any] | list[dict[str, Any]]]:
        yield [{"index": 0}, {"index": 1}]
        yield {"index": 2}

    client = Client()
    answer = EventStream(events, {}, lambda error: error_answer(error, {}), error_body)
    await answer({}, client.receive, client.send)
    assert [message.get("body") for message in client.messages[1:]] == [
        b'data: {"index":0}\n\ndata: {"index":1}\n\n',
        b'data: {"index":2}\n\n',
        b"",
    ]
