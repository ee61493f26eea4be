"""Models on other servers, as a hub worker uses them: `ModelProvider` over HTTP."""

import secrets
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import anyio
import httpx
import msgspec

from gatehouse import __version__
from gatehouse.core.errors import GatehouseError
from gatehouse.engines.base import (
    ChatPrompt,
    EmbeddingRequest,
    Embeddings,
    GenerationRequest,
    ModelDescription,
    Prompt,
    RefusalKind,
    RequestRefused,
    SequenceOutput,
    TextPrompt,
    TokenizedPrompt,
    TokensPrompt,
)
from gatehouse.engines.remote.base import DeltaReader, RemoteKind, UpstreamFailed, UpstreamMalformed
from gatehouse.engines.remote.sequence import RemoteSequence
from gatehouse.inference.errors import (
    GenerationRefused,
    HostLost,
    ModelLoading,
    ModelTimedOut,
    TooManyAtOnce,
)
from gatehouse.inference.lifecycle.callers import UnderWay
from gatehouse.inference.lifecycle.messages import NOBODY, Claim
from gatehouse.inference.remote.connection import NoteTrouble, RemoteConnection, RemoteLimits
from gatehouse.inference.remote.errors import RemoteRefuses
from gatehouse.inference.remote.slots import Slots
from gatehouse.inference.remote.source import RemoteSource
from gatehouse.observability.logging import logger

_DONE = b"[DONE]"
_KEPT_CONNECTIONS = 64
_KEPT_SECONDS = 20.0
# What a server that does not answer now may need to come back; nobody knows.
_COME_BACK_SECONDS = 30.0


class RemoteModels:
    """`ModelProvider` of the models on other servers. An async context manager.

    Args:
        limits: Of time.
        note: Told of what goes wrong with a server; the log, unless another is given.
    """

    def __init__(self, limits: RemoteLimits | None = None, note: NoteTrouble | None = None) -> None:
        self._limits = limits or RemoteLimits()
        self._note = note or _log
        self._client: httpx.AsyncClient | None = None
        self._slots: dict[tuple[str, str, int], Slots] = {}
        self._under_way = UnderWay()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    @asynccontextmanager
    async def hold(
        self,
        source: RemoteSource,
        wait_seconds: float,
        *,
        may_load: bool = True,
        claim: Claim = NOBODY,
    ) -> AsyncIterator["HeldRemote"]:
        """See `ModelProvider.hold`. Nothing has to be loaded here, and nothing is waited for.

        Calls are counted by hub process, and apart from those on hosts of ours.
        """
        connection = self.connection(source)
        if not may_load and not await _answers(connection, wait_seconds):
            raise ModelLoading(source.name, _COME_BACK_SECONDS)
        call = claim.call_id or object()
        if claim.caller and not self._under_way.enter(claim.caller, call, claim.num_concurrent):
            raise TooManyAtOnce(claim.num_concurrent)
        try:
            place = (source.url, source.model_name, source.num_concurrent)
            slots = self._slots.setdefault(place, Slots(source.num_concurrent))
            yield HeldRemote(source, connection, slots, self._limits, self._note)
        finally:
            if claim.caller:
                self._under_way.leave(claim.caller, call)

    def connection(self, source: RemoteSource) -> RemoteConnection:
        if self._client is None:
            self._client = _new_client(self._limits)
        return RemoteConnection(self._client, source, self._limits, self._note)


@dataclass(frozen=True, slots=True)
class HeldRemote:
    """`HeldModel` on another server."""

    source: RemoteSource
    connection: RemoteConnection
    slots: Slots
    limits: RemoteLimits
    note: NoteTrouble

    @property
    def description(self) -> ModelDescription:
        return self.source.description

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[SequenceOutput]:
        """See `HeldModel.generate`.

        Raises:
            RemoteUnreachable: The server cannot be reached, or is not ready.
            ModelTimedOut: It gave no token in time.
            RemoteRefuses: It does not do what it is there for.
            HostLost: It hung up, or broke off in the middle.
        """
        request = await self._fitted(request)
        async with (
            self.slots.taken(request.priority) as waited,
            aclosing(self._outputs(request, waited)) as outputs,
        ):
            async for output in outputs:
                yield output

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """See `HeldModel.embed`; remote models are registered for text only."""
        sentence = "Input validation error: the model generates text and gives no embeddings"
        raise GenerationRefused(RefusalKind.VALIDATION, sentence)

    async def tokenize(self, prompt: Prompt, priority: int = 0) -> TokenizedPrompt:
        """See `HeldModel.tokenize`; the other server knows no priorities."""
        dialect = self.source.dialect
        try:
            answer = await self.connection.answer(dialect.tokenization(prompt))
            return dialect.read_tokens(prompt, answer)
        except RequestRefused as refusal:
            raise _refused(refusal) from None
        except UpstreamMalformed as error:
            raise self._nonsense(error) from None

    async def _outputs(
        self, request: GenerationRequest, waited: float
    ) -> AsyncGenerator[SequenceOutput]:
        dialect = self.source.dialect
        seed = _seed(request)
        try:
            call = dialect.generation(request, seed)
        except RequestRefused as refusal:
            raise _refused(refusal) from None
        sequence = RemoteSequence(request, seed, waited)
        reader = dialect.reader(request)
        began = anyio.current_time()
        deadline = began + self.limits.first_token
        async with aclosing(self.connection.events(call)) as events:
            while not sequence.is_over:
                event = await self._next(events, sequence, deadline)
                output = self._read(event, sequence, reader, anyio.current_time() - began)
                if output is not None:
                    yield output
                    # Not before: our own reader may have been the slow one.
                    deadline = anyio.current_time() + self.limits.between_tokens

    async def _next(
        self, events: AsyncGenerator[bytes], sequence: RemoteSequence, deadline: float
    ) -> bytes | None:
        """The next event; None if there is no more."""
        try:
            with anyio.fail_after(deadline - anyio.current_time()):
                event = await anext(events, None)
        except TimeoutError:
            self.note(self.source.name, "gave no token in time")
            if sequence.has_begun:
                raise HostLost from None
            raise ModelTimedOut(self.source.name) from None
        except UpstreamMalformed as error:
            raise self._broken(error, sequence) from None
        return None if event == _DONE else event

    def _read(
        self, event: bytes | None, sequence: RemoteSequence, reader: DeltaReader, seconds: float
    ) -> SequenceOutput | None:
        """What an event gives, or the end of all events."""
        try:
            if event is not None:
                return sequence.take(reader.read(event), seconds)
            if not sequence.has_begun and not sequence.has_ended:
                raise HostLost
            return sequence.end()
        except UpstreamFailed:
            self.note(self.source.name, "said that it failed")
            raise RemoteRefuses("the server that runs the model failed") from None
        except UpstreamMalformed as error:
            raise self._broken(error, sequence) from None

    def _broken(self, error: UpstreamMalformed, sequence: RemoteSequence) -> GatehouseError:
        if not sequence.has_begun:
            return self._nonsense(error)
        self.note(self.source.name, f"broke off: {error.message}")
        return HostLost()

    def _nonsense(self, error: UpstreamMalformed) -> RemoteRefuses:
        self.note(self.source.name, f"gave what cannot be read: {error.message}")
        return RemoteRefuses("the server that runs the model gave an answer that cannot be read")

    async def _fitted(self, request: GenerationRequest) -> GenerationRequest:
        """The request with what only its length in tokens decides decided."""
        if request.prompt_details:
            raise GenerationRefused(
                RefusalKind.VALIDATION,
                "Input validation error: `decoder_input_details` is not available for a model that "
                "another server runs",
            )
        prompt = request.prompt
        is_cut = (
            isinstance(prompt, TextPrompt)
            and prompt.truncate is not None
            and self.source.kind is RemoteKind.OPENAI
        )
        is_bounded = request.max_total_tokens is not None
        is_open = request.fit_to_context and not isinstance(prompt, ChatPrompt)
        if not (is_cut or is_bounded or is_open):
            return request
        if is_open and not self._shows_tokens and not (is_cut or is_bounded):
            return self._limited(request, _most_tokens(prompt))
        ids = await self._token_ids(prompt)
        if is_cut:
            assert isinstance(prompt, TextPrompt)
            assert prompt.truncate is not None
            ids = ids[-prompt.truncate :]
            request = msgspec.structs.replace(request, prompt=TokensPrompt(ids))
        return self._limited(request, len(ids))

    @property
    def _shows_tokens(self) -> bool:
        return self.source.kind is RemoteKind.TGI or self.source.abilities.can_tokenize

    async def _token_ids(self, prompt: Prompt) -> tuple[int, ...]:
        if isinstance(prompt, TokensPrompt):
            return prompt.ids
        return tuple(token.id for token in (await self.tokenize(prompt)).tokens)

    def _limited(self, request: GenerationRequest, num_prompt_tokens: int) -> GenerationRequest:
        rooms = [request.max_new_tokens]
        if request.max_total_tokens is not None:
            rooms.append(request.max_total_tokens - num_prompt_tokens)
        if request.fit_to_context:
            rooms.append(self.source.context_length - num_prompt_tokens)
        return msgspec.structs.replace(request, max_new_tokens=max(1, min(rooms)))


def _log(model: str, what: str) -> None:
    logger.warning("trouble with a remote engine", model=model, what=what)


async def _answers(connection: RemoteConnection, wait_seconds: float) -> bool:
    try:
        with anyio.move_on_after(wait_seconds):
            status, _ = await connection.status_and_body("GET", "/v1/models")
            return status < 500
    except GatehouseError:
        return False
    return False


def _new_client(limits: RemoteLimits) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        # The system's roots, where an administrator adds the house's own.
        verify=ssl.create_default_context(),
        # No proxies and no passwords of the environment: a call goes where it was registered for.
        trust_env=False,
        follow_redirects=False,
        headers={"User-Agent": f"gatehouse/{__version__}"},
        timeout=httpx.Timeout(None, connect=limits.connect, write=limits.between_tokens),
        limits=httpx.Limits(
            max_connections=None,
            max_keepalive_connections=_KEPT_CONNECTIONS,
            keepalive_expiry=_KEPT_SECONDS,
        ),
    )


def _seed(request: GenerationRequest) -> int | None:
    if not request.sampling.do_sample:
        return None
    given = request.sampling.seed
    return given if given is not None else secrets.randbits(53)


def _most_tokens(prompt: Prompt) -> int:
    """More tokens than a prompt can have: none is shorter than a byte."""
    match prompt:
        case TextPrompt():
            return len(prompt.text.encode()) + 1
        case TokensPrompt():
            return len(prompt.ids)
        case _:
            return 0


def _refused(refusal: RequestRefused) -> GenerationRefused:
    sentence = str(refusal)
    return GenerationRefused(refusal.kind, f"Input validation error: {sentence}")
