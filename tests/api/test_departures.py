"""What ends when a client leaves."""

import anyio
import pytest
from starlette.types import Message

from gatehouse.api.inference.departures import until_the_client_leaves

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Client:
    """Sends what is left of its body, and goes when it is told to."""

    def __init__(self) -> None:
        self.messages: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]
        self.has_left = anyio.Event()
        self.is_listened_to = False

    async def receive(self) -> Message:
        if self.messages:
            return self.messages.pop()
        self.is_listened_to = True
        try:
            await self.has_left.wait()
        finally:
            self.is_listened_to = False
        return {"type": "http.disconnect"}


async def test_block_is_cancelled_when_the_client_leaves() -> None:
    client, steps = Client(), list[str]()
    async with anyio.create_task_group() as tasks:
        with anyio.fail_after(5), until_the_client_leaves(client.receive):
            tasks.start_soon(leave_soon, client)
            try:
                await anyio.sleep_forever()
            finally:
                steps.append("cleaned up")
    assert steps == ["cleaned up"]


async def test_block_that_ends_listens_no_longer_and_raises_its_own_errors() -> None:
    client = Client()

    async def fail() -> None:
        with until_the_client_leaves(client.receive):
            await anyio.sleep(0.01)
            assert client.is_listened_to
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    await anyio.sleep(0.01)
    assert not client.is_listened_to
    client.has_left.set()
    await anyio.sleep(0.01)


async def leave_soon(client: Client) -> None:
    await anyio.sleep(0.01)
    client.has_left.set()
