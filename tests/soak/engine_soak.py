"""Sends requests to the engine itself, from another thread, and takes most of them back.

Blocks are few, so that sequences have to give them up. Every token is compared with what its
request gives alone, the eldest must get on, and whenever nobody is left every block must be free.
Run it as `make soak-engine`.
"""

import argparse
import random
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import msgspec

from gatehouse.engines.base import (
    EngineOptions,
    GenerationRequest,
    Grammar,
    GrammarKind,
    SamplingParams,
    SequenceOutput,
    TextPrompt,
)
from gatehouse.engines.llm.block_manager import BlockManager
from gatehouse.engines.llm.engine import BatchedTextGeneration
from gatehouse.engines.llm.loading import load_batched_text_generation
from gatehouse.engines.llm.scheduler import Scheduler, SchedulerLimits

_OPENINGS = (
    "Once upon a time",
    "My name is",
    "The gate opened and the little fox named Pip went",
    "It was a dark night, and nobody in the valley slept. " * 4,
)
_LENGTH = 120
# Steps that one request may be the eldest of all: it runs, perhaps once more from its start.
_LONGEST_REIGN = 4 * _LENGTH
_BLOCK_SIZE = 32
_NUM_BLOCKS = 32
_MOST_UNDER_WAY = 24
_CANCEL_AT_ONCE = 0.3
_CANCEL_WHILE_WAITING = 0.05


@dataclass(frozen=True, slots=True)
class Sent:
    """A request under way: which of the known ones, how long, and what came of it."""

    known: int
    length: int
    tokens: list[int] = field(default_factory=list)


@dataclass
class Tally:
    """What happened. `wrong` must stay empty."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    longest_reign: int = 0
    num_audits: int = 0


class EngineSoak:
    """Callers in one thread, the engine in this one.

    Args:
        engine: Loaded.
        seed: Of the callers; threads make no run quite like another.
    """

    def __init__(self, engine: BatchedTextGeneration, seed: int) -> None:
        self._engine = engine
        self._random = random.Random(seed)
        self._requests = known_requests(engine.describe().eos_token_ids)
        self._expected = [self._alone(number) for number in range(len(self._requests))]
        self._sent: dict[int, Sent] = {}
        self._finished = threading.Event()
        self._reign = (0, -1)
        self.tally = Tally()

    def run(self, num_cancels: int) -> None:
        """Send requests until so many were taken back, and step until the last has ended."""
        callers = threading.Thread(target=self._call, args=(num_cancels,))
        callers.start()
        while callers.is_alive() or self._engine.has_work():
            if not self._engine.has_work():
                time.sleep(0.0005)
                continue
            for output in self._engine.step():
                self._take(output)
            self._watch_eldest()
            if not self._engine.has_work():
                self._audit()
        callers.join()
        self._audit()

    def _alone(self, number: int) -> list[int]:
        self._engine.add(number, self._requests[number])
        tokens: list[int] = []
        while self._engine.has_work():
            for output in self._engine.step():
                tokens += [generated.token.id for generated in output.tokens]
        return tokens

    def _call(self, num_cancels: int) -> None:
        """Send in bursts, and take requests back at any moment: queued, read, running, ended."""
        request_id = len(self._requests)
        while self.tally.outcomes["taken back"] < num_cancels:
            request_id += 1
            known = self._random.randrange(len(self._requests))
            length = self._random.choice((1, 20, _LENGTH, _LENGTH))
            self._sent[request_id] = Sent(known, length)
            request = msgspec.structs.replace(
                self._requests[known],
                max_new_tokens=length,
                priority=self._random.choice((0, 0, 0, 5)),
                reuse_scope=self._random.choice(("ada", "bob")),
            )
            self._engine.add(request_id, request)
            if self._random.random() < _CANCEL_AT_ONCE:
                self._cancel_one()
            while len(self._sent) > _MOST_UNDER_WAY:
                time.sleep(0.002)
                if self._random.random() < _CANCEL_WHILE_WAITING:
                    self._cancel_one()

    def _cancel_one(self) -> None:
        under_way = list(self._sent)
        if under_way:
            request_id = self._random.choice(under_way)
            self._engine.cancel(request_id)
            self._sent.pop(request_id, None)
            self.tally.outcomes["taken back"] += 1

    def _take(self, output: SequenceOutput) -> None:
        if output.failure is not None:
            self.tally.wrong.append(output.failure.message)
        sent = self._sent.get(output.request_id)
        if sent is None:
            return
        sent.tokens.extend(generated.token.id for generated in output.tokens)
        expected = self._expected[sent.known][: sent.length]
        if sent.tokens != expected[: len(sent.tokens)]:
            self.tally.wrong.append(f"{sent.known} gave {sent.tokens}")
        if output.is_last and self._sent.pop(output.request_id, None) is not None:
            self.tally.outcomes["answered"] += 1
            if len(sent.tokens) != len(expected):
                self.tally.wrong.append(f"{sent.known} ended after {len(sent.tokens)} tokens")

    def _watch_eldest(self) -> None:
        eldest = min(list(self._sent), default=-1)
        steps = self._reign[0] + 1 if eldest == self._reign[1] else 0
        self._reign = (steps, eldest)
        self.tally.longest_reign = max(self.tally.longest_reign, steps)

    def _audit(self) -> None:
        if self._engine.has_work():
            return
        self._engine.scheduler.audit()
        self.tally.num_audits += 1
        if self._engine.scheduler.num_running or self._engine.scheduler.num_waiting:
            self.tally.wrong.append("somebody was left behind")


def known_requests(eos_token_ids: tuple[int, ...]) -> list[GenerationRequest]:
    """Greedy, seeded, penalised and bound ones, learned alone first. None ends early."""
    endless = tuple((token_id, -100.0) for token_id in eos_token_ids)
    samplings = (
        SamplingParams(logit_bias=endless),
        SamplingParams(do_sample=True, seed=7, temperature=1.1, logit_bias=endless),
        SamplingParams(
            do_sample=True, seed=8, top_p=0.8, repetition_penalty=1.2, logit_bias=endless
        ),
    )
    requests = [
        GenerationRequest(TextPrompt(text), sampling, _LENGTH)
        for text in _OPENINGS
        for sampling in samplings
    ]
    grammar = Grammar(GrammarKind.REGEX, f"[a-f]{{{_LENGTH}}}")
    requests.append(
        GenerationRequest(TextPrompt(_OPENINGS[0]), max_new_tokens=_LENGTH, grammar=grammar)
    )
    return requests


def load(folder: Path) -> BatchedTextGeneration:
    """The model's engine, of whose blocks only a few are given out."""
    engine = load_batched_text_generation(folder, EngineOptions(), 2)
    engine.scheduler = Scheduler(BlockManager(_NUM_BLOCKS, _BLOCK_SIZE), SchedulerLimits())
    return engine


def judge(tally: Tally, engine: BatchedTextGeneration) -> list[str]:
    """What is wrong with the run, as sentences."""
    faults = [f"{len(tally.wrong)} wrong, such as: {tally.wrong[0]}"] if tally.wrong else []
    if tally.longest_reign > _LONGEST_REIGN:
        faults.append(f"the eldest did not get on for {tally.longest_reign} steps")
    if not engine.scheduler.num_preemptions:
        faults.append("nobody had to give up blocks: the run proves little")
    return faults


def demo_folder() -> Path:
    return Path(str(resources.files("gatehouse.server"))) / "demo_models" / "storyteller"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cancels", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path, default=demo_folder())
    given = parser.parse_args()
    engine = load(given.model)
    soak = EngineSoak(engine, given.seed)
    started = time.monotonic()
    soak.run(given.cancels)
    tally = soak.tally
    faults = judge(tally, engine)
    print(f"In {time.monotonic() - started:.0f} s:", dict(tally.outcomes))
    print(f"{engine.scheduler.num_preemptions} times blocks were given up")
    print(f"the same request was the eldest for {tally.longest_reign} steps at most")
    print(f"{tally.num_audits} times nobody was left and every block was free")
    print("\n".join(faults) or "No fault.")
    engine.unload()
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
