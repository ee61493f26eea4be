"""HTTP to one server: calls out, events back, within limits of time and size.

A redirect is never followed and nothing of the environment is used, so a call goes where the
administrator said and nowhere else.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import httpx

from gatehouse.engines.base import RefusalKind
from gatehouse.engines.remote.base import Call
from gatehouse.engines.remote.event_lines import EventLines
from gatehouse.inference.errors import (
    GenerationRefused,
    HostLost,
    ModelOverloaded,
    ModelTimedOut,
)
from gatehouse.inference.remote.errors import RemoteRefuses, RemoteUnreachable
from gatehouse.inference.remote.source import RemoteSource

_MAX_ANSWER_BYTES = 16 * 1024 * 1024
_CONNECT_PAUSE_SECONDS = 0.1
# Told the model's name and what went wrong; nothing that a server or a caller said.
NoteTrouble = Callable[[str, str], None]
_NO_SUCH = frozenset({404, 405, 410, 501})


@dataclass(frozen=True, slots=True)
class RemoteLimits:
    """How patient the hub is with other servers, in seconds.

    Attributes:
        connect: For the connection alone.
        patience: How long a server that refuses connections is asked again.
        first_token: From the call to its first token: there may be a queue.
        between_tokens: From one token to the next.
        answer: For an answer that is not generated.
    """

    connect: float = 5.0
    patience: float = 2.0
    first_token: float = 120.0
    between_tokens: float = 30.0
    answer: float = 15.0


class RemoteConnection:
    """Speaks to the server of one model."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        source: RemoteSource,
        limits: RemoteLimits,
        note: NoteTrouble,
    ) -> None:
        self._client = client
        self._source = source
        self._limits = limits
        self._note = note

    async def events(self, call: Call) -> AsyncGenerator[bytes]:
        """The data of the events that the server answers with. Closing it early hangs up.

        Raises:
            GatehouseError: See `_refuse` and `_open`.
            UpstreamMalformed: It is no stream of events, or one of them is too long.
            HostLost: The connection ended in the middle of the answer.
        """
        async with self._open("POST", call.path, call.body) as response:
            if response.status_code != 200:
                raise self._refusal(response.status_code)
            if not _has_type(response, "text/event-stream"):
                raise self._refuses("did not answer with a stream of events")
            lines = EventLines()
            async for chunk in response.aiter_raw():
                for event in lines.feed(chunk):
                    yield event

    async def answer(self, call: Call) -> bytes:
        """A whole JSON answer. Raises as `events` does, and `ModelTimedOut`."""
        status, body = await self.status_and_body("POST", call.path, call.body)
        if status != 200:
            raise self._refusal(status)
        return body

    async def status_and_body(
        self, method: str, path: str, body: dict[str, object] | None = None
    ) -> tuple[int, bytes]:
        """The status, and the body unless it is longer than any that is wanted.

        Raises:
            RemoteUnreachable: No connection.
            ModelTimedOut: It took too long.
            HostLost: The connection ended.
            RemoteRefuses: The answer is too long.
        """
        found = bytearray()
        try:
            with anyio.fail_after(self._limits.answer):
                async with self._open(method, path, body) as response:
                    async for chunk in response.aiter_raw():
                        found += chunk
                        if len(found) > _MAX_ANSWER_BYTES:
                            raise self._refuses("gave an answer that is far too long")
        except TimeoutError:
            raise ModelTimedOut(self._source.name) from None
        return response.status_code, bytes(found)

    @asynccontextmanager
    async def _open(
        self, method: str, path: str, body: dict[str, object] | None
    ) -> AsyncIterator[httpx.Response]:
        """A call and the beginning of its answer.

        Raises:
            RemoteUnreachable: No connection.
            ModelTimedOut: It did not take the call in time.
            HostLost: The connection ended.
            RemoteRefuses: It does not speak HTTP.
        """
        name = self._source.name
        try:
            response = await self._send(method, path, body)
            try:
                yield response
            finally:
                with anyio.CancelScope(shield=True):
                    await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            self._note(name, f"cannot be reached ({type(error).__name__})")
            raise RemoteUnreachable(name) from None
        except httpx.TimeoutException:
            raise ModelTimedOut(name) from None
        except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
            self._note(name, f"hung up ({type(error).__name__})")
            raise HostLost from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._refuses(f"could not be called ({type(error).__name__})") from None

    async def _send(self, method: str, path: str, body: dict[str, object] | None) -> httpx.Response:
        """Send it, again while connections are refused: a server that restarts is soon back."""
        request = self._client.build_request(
            method, self._source.url + path, json=body, headers=self._headers()
        )
        deadline = anyio.current_time() + self._limits.patience
        while True:
            try:
                return await self._client.send(request, stream=True)
            except httpx.ConnectError:
                if anyio.current_time() >= deadline:
                    raise
            await anyio.sleep(_CONNECT_PAUSE_SECONDS)

    def _headers(self) -> dict[str, str]:
        # Not compressed: what a server may unpack into our memory is what it sends.
        headers = {"Accept-Encoding": "identity"}
        if self._source.api_key is not None:
            headers["Authorization"] = f"Bearer {self._source.api_key}"
        return headers

    def _refusal(self, status: int) -> Exception:
        """What a status other than 200 means for the caller."""
        name = self._source.name
        if status == 429:
            return ModelOverloaded()
        if status in (408, 504):
            return ModelTimedOut(name)
        if status in (502, 503):
            self._note(name, f"is not ready (status {status})")
            return RemoteUnreachable(name)
        if status in (400, 413, 422):
            return GenerationRefused(
                RefusalKind.VALIDATION,
                "Input validation error: the server that runs this model refused the request: the "
                f"prompt is longer than its {self._source.context_length} tokens, or a parameter "
                "is one that it does not take",
            )
        if status in (401, 403):
            return self._refuses("refused this hub's key", status)
        if 300 <= status < 400:
            return self._refuses("answered with a redirect, which is not followed", status)
        if status in _NO_SUCH:
            return self._refuses("does not know the model", status)
        return self._refuses("failed", status)

    def _refuses(self, what: str, status: int | None = None) -> RemoteRefuses:
        self._note(self._source.name, f"{what} (status {status})" if status else what)
        return RemoteRefuses(f"the server that runs the model {what}")


def _has_type(response: httpx.Response, wanted: str) -> bool:
    is_plain = response.headers.get("content-encoding", "identity") == "identity"
    given = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return bool(is_plain and given == wanted)
