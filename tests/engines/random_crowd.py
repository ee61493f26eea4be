"""Requests among others that come, go and are cancelled at random, in steps cut at random."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from equality_models import EqualityModel
from watched_engine import WatchedRunner, make_engine

from gatehouse.engines.base import GenerationRequest, SamplingParams, TokensPrompt
from gatehouse.engines.llm.engine import BatchedTextGeneration
from gatehouse.engines.llm.openvino_runner import OpenVinoRunner
from gatehouse.engines.llm.scheduler import SchedulerLimits

# A token and its log-probability, beside the likeliest one and its own.
Told = tuple[int, int, float | None]

_LONGEST_PROMPT = 100
_MOST_NEW = 20
_LAST_ARRIVAL = 6


@dataclass(frozen=True)
class _Mate:
    """Another request: when it comes, and after how many steps it is cancelled, if it is."""

    request: GenerationRequest
    arrival: int
    patience: int | None


class Crowd:
    """Runs requests alone and among others.

    Attributes:
        num_preemptions: Of all that ran.
        num_cancelled: Of all mates.
        num_reused: Prompts of which a part was not run again.
    """

    def __init__(self, model: EqualityModel, runner: OpenVinoRunner) -> None:
        self.model = model
        self._runner = runner
        self.num_preemptions = 0
        self.num_cancelled = 0
        self.num_reused = 0

    def run_alone(self, request: GenerationRequest) -> list[Told]:
        engine = make_engine(WatchedRunner(self._runner), self.model.tokenizer)
        return self._run(engine, {0: [(0, request)]}, {})[0]

    def run_scarce(self, requests: Sequence[GenerationRequest]) -> list[list[Told]]:
        """What they give at once with too few blocks for all of them."""
        engine = make_engine(WatchedRunner(self._runner, num_blocks=9), self.model.tokenizer)
        told = self._run(engine, {0: list(enumerate(requests))}, {})
        self.num_preemptions += engine.scheduler.num_preemptions
        return [told[number] for number in range(len(requests))]

    def run_at_random(
        self, targets: Sequence[GenerationRequest], draw: random.Random
    ) -> list[list[Told]]:
        """What the targets give among mates, with blocks and bounds of steps drawn anew."""
        runner = WatchedRunner(self._runner, num_blocks=draw.choice((8, 10, 30)))
        max_sequences = draw.choice((3, 8, 32))
        max_tokens = max_sequences + draw.choice((3, 20, 500))
        limits = SchedulerLimits(max_sequences, max_tokens, max_scored_per_step=30, stream_weight=1)
        engine = make_engine(runner, self.model.tokenizer, limits)
        arrivals: dict[int, list[tuple[int, GenerationRequest]]] = defaultdict(list)
        cancels: dict[int, list[int]] = defaultdict(list)
        for number, target in enumerate(targets):
            arrivals[draw.randrange(_LAST_ARRIVAL)].append((number, target))
        for number in range(len(targets), len(targets) + draw.randint(1, 6)):
            mate = self._mate(draw)
            arrivals[mate.arrival].append((number, mate.request))
            if mate.patience is not None:
                cancels[mate.arrival + mate.patience].append(number)
        told = self._run(engine, arrivals, cancels)
        self.num_preemptions += engine.scheduler.num_preemptions
        return [told[number] for number in range(len(targets))]

    def _mate(self, draw: random.Random) -> _Mate:
        ids = [draw.choice(self.model.prompts[-1]) for _ in range(draw.randint(1, _LONGEST_PROMPT))]
        if draw.random() < 0.3:
            # The beginning that one of the targets has too.
            ids = draw.choice(self.model.prompts[-2:]) + ids[:10]
        sampling = SamplingParams(do_sample=draw.random() < 0.5, seed=draw.randrange(99))
        request = GenerationRequest(
            TokensPrompt(tuple(ids)),
            max_new_tokens=draw.randint(1, _MOST_NEW),
            sampling=sampling,
            priority=draw.randint(-1, 1),
            prompt_details=draw.random() < 0.2,
        )
        patience = draw.randrange(_LAST_ARRIVAL) if draw.random() < 0.3 else None
        return _Mate(request, draw.randrange(_LAST_ARRIVAL), patience)

    def _run(
        self,
        engine: BatchedTextGeneration,
        arrivals: dict[int, list[tuple[int, GenerationRequest]]],
        cancels: dict[int, list[int]],
    ) -> dict[int, list[Told]]:
        told: dict[int, list[Told]] = defaultdict(list)
        unfinished = {number for arriving in arrivals.values() for number, _ in arriving}
        reused: set[int] = set()
        step = 0
        while unfinished or engine.has_work():
            for number, request in arrivals.get(step, []):
                engine.add(number, request)
            for number in unfinished.intersection(cancels.get(step, [])):
                engine.cancel(number)
                unfinished.remove(number)
                self.num_cancelled += 1
            for output in engine.step():
                assert output.failure is None
                for token in output.tokens:
                    if token.top:
                        (best,) = token.top
                        told[output.request_id].append((token.token.id, best.id, best.logprob))
                if output.is_last:
                    unfinished.discard(output.request_id)
            reused |= {
                number
                for number, running in engine._running.items()
                if running.scheduled.num_cached
            }
            step += 1
        self.num_reused += len(reused)
        engine.scheduler.audit()
        return told
