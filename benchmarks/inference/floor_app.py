"""The least that an application can do on the same server: the peer that shows what is not ours.

`POST /` reads the body and answers a line of JSON. `POST /stream` sends events at a pace, each with
the moment at which it was made, and with `silent` nothing after the first.
"""

import asyncio
import time
from typing import Any
from urllib.parse import parse_qs

_ANSWER = b'[{"generated_text": "' + b" word" * 20 + b'"}]'
_EVENT = (
    b'data: {"index":%d,"token":{"id":1001,"text":" word","logprob":%f,"special":false},'
    b'"generated_text":null,"details":null}\n\n'
)
_JSON = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_ANSWER))]


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    if scope["path"] == "/stream":
        await _stream({key: float(value[0]) for key, value in _query(scope).items()}, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": _JSON})
    await send({"type": "http.response.body", "body": _ANSWER})


async def _stream(query: dict[str, float], send: Any) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    num_tokens = int(query["tokens"])
    next_step = time.monotonic()
    for number in range(1, num_tokens + 1):
        body = _EVENT % (number, time.monotonic())
        await send({"type": "http.response.body", "body": body, "more_body": True})
        next_step = max(next_step + 1 / query["rate"], time.monotonic())
        await asyncio.sleep(next_step - time.monotonic())
    await send({"type": "http.response.body", "body": b""})


def _query(scope: Any) -> dict[str, list[str]]:
    return parse_qs(scope["query_string"].decode())
