"""Asks a server what it can do, before and after it is registered."""

from dataclasses import dataclass, replace

import msgspec

from gatehouse.core.errors import GatehouseError
from gatehouse.engines.base import ChatPrompt, GenerationRequest, Prompt, TextPrompt
from gatehouse.engines.remote.base import (
    RemoteAbilities,
    RemoteKind,
    RouteAbilities,
    UpstreamMalformed,
)
from gatehouse.engines.remote.json_values import (
    count_or_none,
    inner_list,
    inner_object,
    read_object,
)
from gatehouse.inference.remote.connection import RemoteConnection, RemoteLimits
from gatehouse.inference.remote.errors import RemoteUnreachable
from gatehouse.inference.remote.provider import RemoteModels
from gatehouse.inference.remote.source import RemoteSource

# Other failures: `transformers serve` cannot list what did not come from its cache.
_NOT_READY = frozenset({502, 503, 504})
_TEXT = TextPrompt("Hello")
_CHAT = ChatPrompt(({"role": "user", "content": "Hello"},))
# Asked for in this order; some servers refuse a request that names what they do not know.
_TRIES = (
    RouteAbilities(logprobs=True, usage=True),
    RouteAbilities(logprobs=False, usage=True),
    RouteAbilities(),
)
# Names under which servers tell it beside a model's name; not OpenAI's.
_CONTEXT_NAMES = ("max_model_len", "context_length", "max_context_length", "context_window")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a server answered.

    Attributes:
        context_length: None if it does not tell.
        knows_model: Whether it lists the model; None if it lists none.
    """

    abilities: RemoteAbilities
    context_length: int | None
    knows_model: bool | None

    @property
    def can_run(self) -> bool:
        return self.abilities.text is not None or self.abilities.chat is not None


async def check_server(source: RemoteSource, limits: RemoteLimits | None = None) -> Finding:
    """Try everything with a token or two.

    Raises:
        RemoteUnreachable: Nothing answers there.
        ModelTimedOut: It does not answer in time.
        HostLost: It hangs up.
    """
    # Most of what goes wrong here is what is to be found out.
    async with RemoteModels(limits, note=lambda model, what: None) as models:
        connection = models.connection(source)
        if source.kind is RemoteKind.TGI:
            context_length, knows_model = await _tgi_info(connection), None
        else:
            context_length, knows_model = await _listed(connection, source.model_name)
        can_tokenize = await _can_tokenize(models, source)
        text = await _route(models, source, _TEXT)
        chat = await _route(models, source, _CHAT)
    return Finding(RemoteAbilities(text, chat, can_tokenize), context_length, knows_model)


async def _listed(connection: RemoteConnection, model_name: str) -> tuple[int | None, bool | None]:
    status, body = await connection.status_and_body("GET", "/v1/models")
    if status in _NOT_READY:
        raise RemoteUnreachable(model_name)
    try:
        listed = [inner_object(item) for item in inner_list(read_object(body).get("data"))]
    except UpstreamMalformed:
        return None, None
    for item in listed:
        if item.get("id") == model_name:
            lengths = (count_or_none(item.get(name)) for name in _CONTEXT_NAMES)
            return next((length for length in lengths if length), None), True
    return None, False if listed else None


async def _tgi_info(connection: RemoteConnection) -> int | None:
    status, body = await connection.status_and_body("GET", "/info")
    if status in _NOT_READY:
        raise RemoteUnreachable("this model")
    try:
        return count_or_none(read_object(body).get("max_total_tokens"))
    except UpstreamMalformed:
        return None


async def _can_tokenize(models: RemoteModels, source: RemoteSource) -> bool:
    able = replace(source, abilities=RemoteAbilities(can_tokenize=True))
    try:
        async with models.hold(able, 0) as model:
            return bool((await model.tokenize(_TEXT)).tokens)
    except GatehouseError:
        return False


async def _route(
    models: RemoteModels, source: RemoteSource, prompt: Prompt
) -> RouteAbilities | None:
    """What a route takes: the most that it does not refuse."""
    for tried in _TRIES:
        able = replace(source, abilities=RemoteAbilities(text=tried, chat=tried))
        request = GenerationRequest(prompt=prompt, max_new_tokens=2)
        scores = []
        try:
            async with models.hold(able, 0) as model:
                async for output in model.generate(request):
                    scores += [generated.token.logprob for generated in output.tokens]
        except GatehouseError:
            continue
        given = any(score is not None for score in scores)
        return msgspec.structs.replace(tried, logprobs=tried.logprobs and given)
    return None
