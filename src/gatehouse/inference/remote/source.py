"""A model on another server, as it is called."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from gatehouse.engines.base import ModelDescription
from gatehouse.engines.remote.base import Dialect, RemoteAbilities, RemoteKind
from gatehouse.engines.remote.chat_markup import CHAT_TRAITS
from gatehouse.engines.remote.openai import OpenAIDialect
from gatehouse.engines.remote.tgi import TGIDialect
from gatehouse.inference.remote.errors import RemoteEngineInvalid

_MAX_URL = 500


@dataclass(frozen=True, slots=True)
class RemoteSource:
    """What `RemoteModels` holds a model by.

    Attributes:
        key: Tells models apart: the repository's internal id, the registration and the commit.
        name: What people call it, for messages.
        url: The server's address, without `/v1` and without a slash at the end.
        model_name: What the server calls it.
        api_key: Sent as Bearer token; never shown.
        num_concurrent: Requests that one hub process has under way there at once.
    """

    key: str
    name: str
    url: str
    kind: RemoteKind
    model_name: str
    context_length: int
    abilities: RemoteAbilities
    num_concurrent: int
    api_key: str | None = field(default=None, repr=False)
    # Nothing of it lies here: plans that limit the size of a model have nothing to measure.
    weight_bytes: int = 0

    @property
    def version(self) -> str:
        """Tells answers apart."""
        return self.key

    @property
    def dialect(self) -> Dialect:
        if self.kind is RemoteKind.TGI:
            return TGIDialect(self.model_name, self.abilities)
        return OpenAIDialect(self.model_name, self.abilities)

    @property
    def description(self) -> ModelDescription:
        can_chat = self.abilities.chat is not None
        return ModelDescription(
            engine=f"remote-{self.kind}",
            architecture="",
            context_length=self.context_length,
            has_chat_template=can_chat,
            eos_token_ids=(),
            dtype="",
            # No server tells; nobody would register one for a model that a processor can run well.
            device="gpu",
            num_parameters=0,
            chat=CHAT_TRAITS if can_chat else None,
            can_infill=self.kind is RemoteKind.OPENAI and self.abilities.text is not None,
        )


def read_server_url(text: str) -> str:
    """An http or https address in the form in which it is kept.

    Raises:
        RemoteEngineInvalid: It is none, or carries more than an address.
    """
    try:
        parts = urlsplit(text.strip())
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        has_port, parts = False, urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or not has_port:
        raise RemoteEngineInvalid("`--url` must be an address such as `http://10.0.0.5:8000`.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise RemoteEngineInvalid(
            "`--url` must be an address alone: give the key with `--key-stdin`."
        )
    path = parts.path.rstrip("/").removesuffix("/v1")
    url = urlunsplit((parts.scheme, parts.netloc.lower(), path, "", ""))
    if len(url) > _MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise RemoteEngineInvalid(f"`--url` must be at most {_MAX_URL} printable ASCII characters.")
    return url
