"""What certain clients need to be different in streamed chat, told apart by their `User-Agent`.

Measured with the clients themselves; see `tests/api/test_chat_routes.py`.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from gatehouse.api.inference.refusals import is_openai_client

# They parse the terminator as JSON and raise after the last chunk.
_NO_DONE = re.compile(r"hf_hub/0\.2[23]\.")
# What the libraries below `text-generation` call themselves, the asynchronous one second.
_NAMELESS = re.compile(r"python-requests/|Python/\S+ aiohttp/")


@dataclass(slots=True)
class ChatQuirks:
    """How one client reads chunks.

    Attributes:
        omits_done: It takes the end of the body for the end, and trips over `[DONE]`.
        wants_tool_calls: Its type has the key in every delta.
        joins_roles: It joins all texts of a key, the role's too, which others want in every chunk.
    """

    omits_done: bool
    wants_tool_calls: bool
    joins_roles: bool
    _begun: set[int] = field(default_factory=set)

    def apply(self, chunk: dict[str, Any]) -> None:
        """Change a chunk as this client needs it."""
        for choice in chunk["choices"]:
            delta = choice["delta"]
            if self.wants_tool_calls:
                delta.setdefault("tool_calls", None)
            if self.joins_roles and choice["index"] in self._begun:
                del delta["role"]
            self._begun.add(choice["index"])


def quirks_of(request: Request, body: dict[str, Any]) -> ChatQuirks:
    agent = request.headers.get("user-agent", "")
    is_text_generation = _is_text_generation(request, agent, body)
    return ChatQuirks(
        omits_done=is_text_generation or _NO_DONE.search(agent) is not None,
        wants_tool_calls=is_text_generation,
        joins_roles=is_openai_client(request),
    )


def _is_text_generation(request: Request, agent: str, body: dict[str, Any]) -> bool:
    """Whether the client `text-generation` asks, which has no name of its own.

    It always sends every field that it knows, null or not.
    """
    if not _NAMELESS.match(agent) or request.url.path.startswith("/v1/"):
        return False
    messages = body.get("messages")
    return (
        {"repetition_penalty", "tool_choice"} <= body.keys()
        and isinstance(messages, list)
        and all(isinstance(message, dict) and "tool_calls" in message for message in messages)
    )
