"""Runs a server for a long time under callers that leave and hosts that are killed.

Every answer is checked against its own expected text, and at the end nothing may be left over:
memory, open files, slots, leases. Run it as `make soak`, or with `--minutes 2` for a glance.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import httpx
import psutil
from hub_server import HubServer
from huggingface_hub import HfApi
from rich.console import Console
from rich.table import Table

_PROMPTS = (
    "Once upon a time",
    "The gate opened and",
    "It was a dark night, and",
    "My name is",
    "Dear",
    "A fox named Pip",
    "In the evening",
    "There was a clever",
)
_MAX_TOKENS = 60
_IDLE_SECONDS = 15
_SAMPLE_SECONDS = 5.0
_CLEAN_ERRORS = ("incomplete_generation", "is currently loading", "Model is overloaded")
_MEMORY_GROWTH_MIB = 24
_FILE_GROWTH = 8


@dataclass(frozen=True, slots=True)
class Sample:
    """The server at one moment; hosts, which come and go, are not in it."""

    seconds: float
    memory_mib: float
    num_files: int


@dataclass(slots=True)
class Tally:
    """What happened. `wrong` must stay empty."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)


class Soak:
    """One run: callers, a killer and an observer over one server."""

    def __init__(self, server: HubServer, token: str, model: str, seed: int) -> None:
        self._server = server
        self._headers = {"Authorization": f"Bearer {token}", "x-use-cache": "0"}
        self._url = f"{server.url}/models/{model}"
        self._random = random.Random(seed)
        self._expected: dict[str, list[str]] = {}
        self.tally = Tally()

    async def run(self, minutes: float, num_callers: int, kill_seconds: float) -> None:
        """Learn what is right, then let everybody loose until the time is over."""
        async with httpx.AsyncClient(headers=self._headers, timeout=120) as client:
            for prompt in _PROMPTS:
                pieces, _ = await self._read_stream(client, prompt, _MAX_TOKENS, _MAX_TOKENS)
                self._expected[prompt] = pieces
        end = time.monotonic() + minutes * 60
        async with asyncio.TaskGroup() as tasks:
            for _ in range(num_callers):
                tasks.create_task(self._call_until(end))
            tasks.create_task(self._kill_until(end, kill_seconds))
            tasks.create_task(self._observe_until(end))

    async def _call_until(self, end: float) -> None:
        async with httpx.AsyncClient(headers=self._headers, timeout=120) as client:
            while time.monotonic() < end:
                prompt = self._random.choice(_PROMPTS)
                length = self._random.randint(1, _MAX_TOKENS)
                try:
                    outcome = await self._call_once(client, prompt, length)
                except httpx.HTTPError as error:
                    outcome = f"broken connection: {type(error).__name__}"
                    self.tally.wrong.append(outcome)
                self.tally.outcomes[outcome] += 1

    async def _call_once(self, client: httpx.AsyncClient, prompt: str, length: int) -> str:
        kind = self._random.random()
        if kind < 0.35:
            return await self._whole(client, prompt, length)
        if kind < 0.55:
            return await self._leave_at_once(client, prompt, length)
        leaves_after = length if kind < 0.8 else self._random.randint(0, length)
        pieces, trouble = await self._read_stream(client, prompt, length, leaves_after)
        self._check(prompt, pieces, leaves_after if not trouble else len(pieces))
        return trouble or ("streamed" if leaves_after >= length else "left while streaming")

    async def _whole(self, client: httpx.AsyncClient, prompt: str, length: int) -> str:
        answer = await client.post(self._url, json=_body(prompt, length))
        if answer.status_code != 200:
            return self._trouble(answer.status_code, answer.text)
        text = answer.json()[0]["generated_text"]
        if text != "".join(self._expected[prompt][:length]):
            self.tally.wrong.append(f"{prompt!r} gave {text!r}")
        return "whole"

    async def _leave_at_once(self, client: httpx.AsyncClient, prompt: str, length: int) -> str:
        """Give up while the request waits, is read, or has just begun."""
        patience = self._random.uniform(0.001, 0.1)
        try:
            async with asyncio.timeout(patience):
                return await self._whole(client, prompt, length)
        except TimeoutError:
            return "left while waiting"

    async def _read_stream(
        self, client: httpx.AsyncClient, prompt: str, length: int, leaves_after: int
    ) -> tuple[list[str], str]:
        """The pieces that came, and what went wrong."""
        pieces: list[str] = []
        body = _body(prompt, length) | {"stream": True}
        async with client.stream("POST", self._url, json=body) as answer:
            if answer.status_code != 200:
                await answer.aread()
                return pieces, self._trouble(answer.status_code, answer.text)
            async for line in answer.aiter_lines():
                if len(pieces) >= leaves_after and leaves_after < length:
                    return pieces, ""
                if not line.startswith("data:"):
                    continue
                event = json.loads(line.removeprefix("data:"))
                if "error" in event:
                    return pieces, self._trouble(200, line)
                token = event["token"]
                pieces.append("" if token["special"] else token["text"])
        return pieces, ""

    def _check(self, prompt: str, pieces: list[str], at_least: int) -> None:
        expected = self._expected[prompt]
        at_least = min(at_least, len(expected))
        if pieces != expected[: len(pieces)] or len(pieces) < at_least:
            self.tally.wrong.append(f"{prompt!r} streamed {pieces!r}")

    def _trouble(self, status: int, text: str) -> str:
        known = next((sentence for sentence in _CLEAN_ERRORS if sentence in text), None)
        if known is None:
            self.tally.wrong.append(f"{status}: {text[:200]}")
        return known or f"error {status}"

    async def _kill_until(self, end: float, kill_seconds: float) -> None:
        while (rest := end - time.monotonic()) > 0:
            await asyncio.sleep(min(kill_seconds, rest))
            hosts = find_hosts(self._server)
            if hosts and end - time.monotonic() > kill_seconds / 4:
                self._random.choice(hosts).kill()
                self.tally.outcomes["hosts killed"] += 1

    async def _observe_until(self, end: float) -> None:
        started = time.monotonic()
        while time.monotonic() < end:
            self.tally.samples.append(observe(self._server, time.monotonic() - started))
            await asyncio.sleep(_SAMPLE_SECONDS)


def _body(prompt: str, length: int) -> dict[str, object]:
    parameters = {"max_new_tokens": length, "return_full_text": False}
    return {"inputs": prompt, "parameters": parameters}


def find_hosts(server: HubServer) -> list[psutil.Process]:
    """Model hosts: processes that the fork server forked."""
    forkers = [each for each in server.processes() if _is_of_fork_server(each)]
    return [each for each in forkers if each.parent() in forkers]


def _is_of_fork_server(process: psutil.Process) -> bool:
    try:
        return "gatehouse.engines.fork_server" in process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False  # it was killed a moment ago


def observe(server: HubServer, seconds: float) -> Sample:
    hosts = find_hosts(server)
    lasting = [each for each in server.processes() if each not in hosts]
    memory, num_files = 0, 0
    for process in lasting:
        try:
            memory += process.memory_info().rss
            num_files += process.num_fds()
        except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
            continue  # a host that was killed and is not collected yet
    return Sample(seconds, memory / 2**20, num_files)


def judge(tally: Tally, server: HubServer) -> list[str]:
    """What is wrong with the run, as sentences. The callers must have ended."""
    faults = [f"{len(tally.wrong)} wrong answers, such as {tally.wrong[0]}"] if tally.wrong else []
    # The first third is warming up: threads, caches, allocators.
    warm = tally.samples[len(tally.samples) // 3]
    time.sleep(_IDLE_SECONDS + 10)
    last = observe(server, 0)
    if last.memory_mib - warm.memory_mib > _MEMORY_GROWTH_MIB:
        faults.append(f"memory grew from {warm.memory_mib:.0f} to {last.memory_mib:.0f} MiB")
    if last.num_files - warm.num_files > _FILE_GROWTH:
        faults.append(f"open files grew from {warm.num_files} to {last.num_files}")
    if find_hosts(server):
        faults.append("an idle host was not unloaded: a lease was lost")
    return faults


def push_demo_model(server: HubServer) -> tuple[str, str]:
    """The demo model under its owner's name; returns the repository and the owner's token."""
    owner = server.person("soaker", "--plan", "enterprise")
    repo_id = f"{owner.name}/storyteller"
    api = HfApi(server.url, token=owner.write_token)
    api.create_repo(repo_id)
    folder = Path(str(resources.files("gatehouse.server"))) / "demo_models" / "storyteller"
    api.upload_folder(repo_id=repo_id, folder_path=folder, ignore_patterns="README.md")
    return repo_id, owner.read_token


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--kill-seconds", type=float, default=120.0)
    parser.add_argument("--workers", type=int, default=2, help="hub workers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runner", default="auto", help="as `gatehouse model set` takes it")
    given = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        server = HubServer(
            Path(folder),
            workers=str(given.workers),
            model_idle_seconds=str(_IDLE_SECONDS),
            enterprise_requests_per_hour="10000000",
        )
        server.start()
        try:
            repo_id, token = push_demo_model(server)
            server.gatehouse("model", "set", repo_id, "--runner", given.runner)
            soak = Soak(server, token, repo_id, given.seed)
            asyncio.run(soak.run(given.minutes, given.callers, given.kill_seconds))
            faults = judge(soak.tally, server)
        finally:
            server.stop()
    _print(console, soak.tally, faults)
    return 1 if faults else 0


def _print(console: Console, tally: Tally, faults: list[str]) -> None:
    table = Table("outcome", "times")
    for outcome, count in tally.outcomes.most_common():
        table.add_row(outcome, str(count))
    console.print(table)
    memory = Table("minute", "memory of hub and supervisor (MiB)", "open files")
    step = max(1, len(tally.samples) // 12)
    for sample in tally.samples[::step]:
        row = (f"{sample.seconds / 60:.1f}", f"{sample.memory_mib:.0f}", str(sample.num_files))
        memory.add_row(*row)
    console.print(memory)
    console.print("\n".join(faults) or "No fault.")


if __name__ == "__main__":
    sys.exit(main())
