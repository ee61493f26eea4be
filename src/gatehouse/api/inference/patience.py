"""How long which caller waits for a model that is not in memory, and whether it is loaded at all.

Some clients sleep for the time that they are told; others repeat at once and for ever, or give up.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gatehouse.inference.lifecycle.wishes import ASKED_TO_WAIT_SECONDS

_HELD_SECONDS = 60.0
# huggingface_hub from 0.29 on raises at the first 503, @huggingface/inference from 3 on repeats at
# once, openai repeats twice within two seconds.
_DO_NOT_SLEEP = re.compile(
    r"\bhf_hub/(?:0\.(?:29|[3-9]\d|[1-9]\d\d)|[1-9])"
    r"|@huggingface/inference/(?:[3-9]|[1-9]\d)"
    r"|\b(?:Async)?OpenAI/"
)
_YES = frozenset({"1", "true"})


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for the model, and whether to load it."""

    wait_seconds: float
    may_load: bool = True


def find_patience(
    headers: Mapping[str, str], options: object, *, is_stream: bool, cold_wait_seconds: float
) -> Patience:
    """What the caller asked for; else what their client can bear.

    Args:
        headers: Of the request, looked up in lower case.
        options: The body's `options`, if it has any.
        is_stream: Streams are held: comments keep them alive.
        cold_wait_seconds: For clients that sleep on 503, and those that nobody knows.
    """
    asked: Mapping[str, Any] = options if isinstance(options, dict) else {}
    if headers.get("x-load-model") == "0" or asked.get("dont_load_model") is True:
        return Patience(0.0, may_load=False)
    if headers.get("x-wait-for-model", "").lower() in _YES or asked.get("wait_for_model") is True:
        return Patience(ASKED_TO_WAIT_SECONDS)
    if is_stream or _DO_NOT_SLEEP.search(headers.get("user-agent", "")):
        return Patience(max(_HELD_SECONDS, cold_wait_seconds))
    return Patience(cold_wait_seconds)
