"""Random requests in few blocks: nobody's tokens are mixed up, nobody starves, nothing leaks.

`GreedyLoop` compares every answer with the one its prompt gives alone, and audits every step.
"""

import random

import pytest
from greedy_loop import GreedyLoop
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from gatehouse.engines.llm.scheduled_sequence import ScheduledSequence
from gatehouse.engines.llm.scheduler import SchedulerLimits

LIMITS = SchedulerLimits(
    max_sequences=8, max_tokens_per_step=32, max_scored_per_step=10, patience=5, stream_weight=1
)
SALTS = (b"", b"one", b"two")


def tokens(source: random.Random, length: int) -> list[int]:
    return [source.randrange(61) for _ in range(length)]


class Visitors:
    """Sends requests at random, and takes some of them back.

    Attributes:
        num_cancelled: Requests taken back.
        longest_reign: How many steps the same request was the eldest of all, at most.
    """

    def __init__(self, loop: GreedyLoop, seed: int, nums_new_tokens: tuple[int, ...]) -> None:
        self.loop = loop
        self.nums_new_tokens = nums_new_tokens
        self.random = random.Random(seed)
        self.prefixes = [tokens(self.random, length) for length in (6, 13, 24)]
        self.num_cancelled = 0
        self.longest_reign = 0
        self._eldest: ScheduledSequence | None = None
        self._reign = 0

    def send(self) -> None:
        prompt_ids = tokens(self.random, self.random.choice((1, 2, 3, 4, 5, 9, 18)))
        if self.random.random() < 0.6:
            prompt_ids = self.random.choice(self.prefixes) + prompt_ids
        self.loop.add(
            prompt_ids,
            self.random.choice(self.nums_new_tokens),
            priority=self.random.choice((0, 0, 0, -5, 5)),
            salt=self.random.choice(SALTS),
            wants_prompt_logits=self.random.random() < 0.1,
        )

    def step(self) -> None:
        """Run a step: perhaps one is not ready, leaves in its midst, or the plan is dropped."""
        if not self.loop.unfinished:
            return
        chance = self.random.random()
        if chance < 0.05:
            self.loop.plan()
        not_ready = [self._anyone()] if 0.05 < chance < 0.15 else []
        leaving = [self._anyone()] if 0.15 < chance < 0.2 else []
        self.num_cancelled += len(leaving)
        self.loop.step(not_ready, leaving)
        if 0.2 < chance < 0.25 and self.loop.unfinished:
            self.loop.cancel(self._anyone())
            self.num_cancelled += 1
        self._watch_the_eldest()

    def _anyone(self) -> ScheduledSequence:
        return self.random.choice(sorted(self.loop.unfinished, key=lambda one: one.arrival))

    def _watch_the_eldest(self) -> None:
        eldest = min(self.loop.unfinished, key=lambda one: one.arrival, default=None)
        self._reign = self._reign + 1 if eldest is self._eldest else 0
        self._eldest = eldest
        self.longest_reign = max(self._reign, self.longest_reign)

    def send_many(self, num_requests: int, nums_waiting: tuple[int, ...]) -> None:
        """Send so many requests, each when few enough of those before are left."""
        for _ in range(num_requests):
            self.send()
            bound = self.random.choice(nums_waiting)
            while len(self.loop.unfinished) > bound:
                self.step()
        while self.loop.unfinished:
            self.step()
        self.loop.run()
        assert len(self.loop.finished) + self.num_cancelled == num_requests


def test_ten_thousand_requests_come_and_go() -> None:
    loop = GreedyLoop(num_blocks=24, limits=LIMITS)
    visitors = Visitors(loop, 1, (1, 2, 3, 6, 12, 30))
    visitors.send_many(10_000, (2, 8, 20, 40))
    assert visitors.num_cancelled > 1000
    assert loop.scheduler.num_preemptions > 100
    assert visitors.longest_reign < 150


@pytest.mark.parametrize("seed", range(4))
def test_who_is_preempted_again_and_again_gets_to_the_end(seed: int) -> None:
    loop = GreedyLoop(num_blocks=20, limits=LIMITS)
    visitors = Visitors(loop, seed, (20, 34))
    visitors.send_many(400, (8, 30))
    assert loop.scheduler.num_preemptions > 60
    assert visitors.longest_reign < 300


prompts = st.builds(
    lambda known, length, own: [7] * known + list(range(length)) + own,
    st.integers(0, 25),
    st.integers(0, 9),
    st.lists(st.integers(0, 60), min_size=1, max_size=3),
)


class SchedulerMachine(RuleBasedStateMachine):
    """Any order of what an engine may do. `GreedyLoop` checks each step and answer."""

    def __init__(self) -> None:
        super().__init__()
        limits = SchedulerLimits(
            max_sequences=4,
            max_tokens_per_step=12,
            max_scored_per_step=5,
            patience=2,
            stream_weight=1,
        )
        self.loop = GreedyLoop(num_blocks=16, limits=limits, block_size=4)

    def chosen(self, place: int) -> list[ScheduledSequence]:
        unfinished = sorted(self.loop.unfinished, key=lambda one: one.arrival)
        return unfinished[place : place + 1]

    @rule(
        prompt_ids=prompts,
        max_new_tokens=st.integers(1, 20),
        priority=st.integers(-1, 1),
        salt=st.sampled_from(SALTS),
        wants_prompt_logits=st.booleans(),
    )
    def add(
        self,
        prompt_ids: list[int],
        max_new_tokens: int,
        priority: int,
        salt: bytes,
        wants_prompt_logits: bool,
    ) -> None:
        self.loop.add(
            prompt_ids,
            max_new_tokens,
            priority=priority,
            salt=salt,
            wants_prompt_logits=wants_prompt_logits,
        )

    @rule(place=st.integers(0, 6))
    def cancel(self, place: int) -> None:
        for sequence in self.chosen(place):
            self.loop.cancel(sequence)

    @rule(num_steps=st.integers(1, 12))
    def step(self, num_steps: int) -> None:
        for _ in range(num_steps):
            self.loop.step()

    @rule(unready=st.integers(0, 6), leaving=st.integers(0, 30))
    def step_in_disorder(self, unready: int, leaving: int) -> None:
        self.loop.step(self.chosen(unready), self.chosen(leaving))

    @rule()
    def drop_a_plan(self) -> None:
        self.loop.plan()

    def teardown(self) -> None:
        self.loop.run()


TestSchedulerMachine = SchedulerMachine.TestCase
TestSchedulerMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
