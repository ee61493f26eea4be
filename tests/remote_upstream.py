"""A server of other people's making, on loopback: it answers as a test's script says.

Written over bare sockets, so that a script can say what no web framework would let it.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

STREAM = "text/event-stream"


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    writer: asyncio.StreamWriter
    has_hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status: str = "200 OK", kind: str = STREAM, more: str = "") -> None:
        """The beginning of an answer that ends when the connection does."""
        text = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\n{more}\r\n"
        await self.send(text.encode())

    async def event(self, value: Any) -> None:
        data = value if isinstance(value, str) else json.dumps(value)
        await self.send(f"data: {data}\n\n".encode())

    async def answer(self, value: Any, status: str = "200 OK") -> None:
        await self.head(status, "application/json")
        await self.send(json.dumps(value).encode())


Script = Callable[[Asked], Awaitable[None]]


@dataclass
class Upstream:
    """The running server. `asked` grows with each request."""

    url: str
    asked: list[Asked] = field(default_factory=list)

    @property
    def last(self) -> Asked:
        return self.asked[-1]


@asynccontextmanager
async def upstream(script: Script) -> AsyncIterator[Upstream]:
    """A server that runs `script` for each request and then hangs up."""
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        watcher = None
        try:
            asked = await _read(reader, writer)
            server.asked.append(asked)
            watcher = asyncio.create_task(_watch(reader, asked))
            await script(asked)
        except asyncio.IncompleteReadError:
            return
        except ConnectionError:
            server.last.has_hung_up.set()
        finally:
            if watcher is not None:
                watcher.cancel()
            writer.close()
            running.discard(task)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = listener.sockets[0].getsockname()[:2]
    server = Upstream(f"http://{host}:{port}")
    try:
        yield server
    finally:
        listener.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines)
    }
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(method, path, headers, json.loads(body) if body else {}, writer)


async def _watch(reader: asyncio.StreamReader, asked: Asked) -> None:
    if not await reader.read(1):
        asked.has_hung_up.set()


def text_chunk(text: str, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of OpenAI's completions."""
    return {"choices": [{"index": 0, "text": text, "finish_reason": finish} | more]}


def chat_chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    """A chunk of OpenAI's chat completions."""
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def usage(num_prompt_tokens: int, num_generated_tokens: int) -> dict[str, Any]:
    counts = {"prompt_tokens": num_prompt_tokens, "completion_tokens": num_generated_tokens}
    return {"choices": [], "usage": counts}
