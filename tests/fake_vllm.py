"""Speaks as much of vLLM's surface as its engine asks for, as a program: `fake_vllm.py serve …`.

Its tokens count up from the prompt's last one. It has a child that does nothing, as vLLM has those
that compute. What is recorded of real events is in `test_vllm_completions.py`.
"""

import argparse
import json
import os
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from itertools import chain
from pathlib import Path
from typing import Any

# A prompt that ends with one of these, and what comes of it.
BREAKS = 90
REFUSES = 91


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    # Many at once are asked for in one moment.
    request_queue_size = 256

    def __init__(self, path: str, given: argparse.Namespace) -> None:
        super().__init__(path, Handler)
        self.given = given
        self.is_well = True
        self._writing = threading.Lock()

    def record(self, what: dict[str, Any]) -> None:
        if self.given.record:
            with self._writing, Path(self.given.record).open("a") as file:
                file.write(json.dumps(what) + "\n")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        """A Unix socket has no address to tell."""

    def do_GET(self) -> None:
        if self.path == "/health":
            self._answer(200 if self.server.is_well else 503, {})
        else:
            length = self.server.given.context_length
            self._answer(200, {"data": [{"id": "model", "max_model_len": length}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.record({"asked": body})
        if body["prompt"][-1] == REFUSES:
            self._answer(400, {"error": {"message": "no", "type": "BadRequestError", "code": 400}})
        elif body.get("stream"):
            self._stream(body)
        else:
            self._answer(200, {"choices": [{"text": ""}]})

    def _answer(self, status: int, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for event in chain(self._events(body), ["[DONE]"]):
                data = f"data: {event}\n\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.server.record({"hung_up": [body["prompt"][-1], body["max_tokens"]]})
            self.close_connection = True

    def _events(self, body: dict[str, Any]) -> Iterator[str]:
        first = body["prompt"][-1]
        if first == BREAKS:
            self.server.is_well = False
            yield json.dumps({"error": {"message": "EngineCore encountered an issue."}})
            return
        named: list[int | None] = [None, *body["prompt"][1:]] if body.get("echo") else []
        scores = [_scored(token_id, body) for token_id in named]
        if body.get("echo"):
            scores[0]["tokens"] = [f"token_id:{body['prompt'][0]}"]
        if body["max_tokens"] == 0:
            yield _event(scores, "length")
            return
        for count in range(1, body["max_tokens"] + 1):
            time.sleep(self.server.given.token_seconds)
            token_id = (first + count) % 305
            is_end = token_id in body["stop_token_ids"] and count > body.get("min_tokens", 0)
            is_last = is_end or count == body["max_tokens"]
            reason = ("stop" if is_end else "length") if is_last else None
            yield _event([*scores, _scored(token_id, body)], reason)
            scores = []
            if is_last:
                return


def _scored(token_id: int | None, body: dict[str, Any]) -> dict[str, Any]:
    if token_id is None:
        return {"tokens": [""], "token_logprobs": [None], "top_logprobs": [None]}
    name = f"token_id:{token_id}"
    others = {f"token_id:{300 + place}": -2.0 - place for place in range(body["logprobs"])}
    top = {name: -1.0} | others
    return {"tokens": [name], "token_logprobs": [-1.0], "top_logprobs": [top]}


def _event(scores: list[dict[str, Any]], reason: str | None) -> str:
    joined = {
        name: [value for score in scores for value in score[name]]
        for name in ("tokens", "token_logprobs", "top_logprobs")
    }
    choice = {"index": 0, "text": "?", "logprobs": joined, "finish_reason": reason}
    return json.dumps({"id": "cmpl-1", "object": "text_completion", "choices": [choice]})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("folder")
    parser.add_argument("--uds", required=True)
    parser.add_argument("--record")
    parser.add_argument("--fail")
    parser.add_argument("--token-seconds", type=float, default=0.0)
    parser.add_argument("--context-length", type=int, default=128)
    given, _ = parser.parse_known_args()
    if given.fail:
        sys.exit(f"(EngineCore pid=7) ERROR 11-22 00:00:00 [core.py:1] {given.fail}")
    core = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    server = Server(given.uds, given)
    server.record({"pids": [os.getpid(), core.pid], "arguments": sys.argv[1:]})
    server.record({"environment": dict(os.environ)})
    server.serve_forever()


if __name__ == "__main__":
    main()
