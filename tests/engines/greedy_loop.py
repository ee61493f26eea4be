"""Scheduler and fake runner together: what an engine does, with the likeliest token each time."""

from collections.abc import Collection

import numpy as np
from fake_runner import FakeRunner

from gatehouse.engines.llm.block_manager import BlockManager
from gatehouse.engines.llm.plan import Plan
from gatehouse.engines.llm.runner import Logits
from gatehouse.engines.llm.scheduled_sequence import ScheduledSequence
from gatehouse.engines.llm.scheduler import Scheduler, SchedulerLimits


class GreedyLoop:
    """Runs sequences, checking every plan against the rules and every answer against its own.

    Attributes:
        finished: Sequences that have all their tokens, in the order in which they got there.
        scored: For each sequence the position and the likeliest token of every row it was given.
        unfinished: Sequences added and neither finished nor cancelled.
    """

    def __init__(
        self,
        num_blocks: int = 64,
        limits: SchedulerLimits | None = None,
        *,
        block_size: int = 4,
        reuse_prefixes: bool = True,
    ) -> None:
        self.limits = limits or SchedulerLimits()
        self.blocks = BlockManager(num_blocks, block_size, reuse_prefixes)
        self.scheduler = Scheduler(self.blocks, self.limits)
        self.runner = FakeRunner(num_blocks, block_size)
        self.finished: list[ScheduledSequence] = []
        self.scored: dict[ScheduledSequence, list[tuple[int, int]]] = {}
        self.unfinished: set[ScheduledSequence] = set()

    def add(
        self,
        prompt_ids: list[int],
        max_new_tokens: int = 4,
        *,
        priority: int = 0,
        salt: bytes = b"",
        wants_prompt_logits: bool = False,
    ) -> ScheduledSequence:
        sequence = ScheduledSequence(
            np.array(prompt_ids, np.int64), max_new_tokens, priority, salt, wants_prompt_logits
        )
        self.scheduler.add(sequence)
        self.unfinished.add(sequence)
        return sequence

    def cancel(self, sequence: ScheduledSequence) -> None:
        self.scheduler.finish(sequence)
        self.unfinished.discard(sequence)

    def plan(self, not_ready: Collection[ScheduledSequence] = frozenset()) -> Plan | None:
        plan = self.scheduler.plan(not_ready)
        if plan is not None:
            self._check(plan, not_ready)
        return plan

    def step(
        self,
        not_ready: Collection[ScheduledSequence] = frozenset(),
        leaving: Collection[ScheduledSequence] = (),
    ) -> Plan | None:
        """Run a step, in the midst of which some are cancelled."""
        plan = self.plan(not_ready)
        if plan is not None:
            logits = self.runner.run(plan.batch)
            for sequence in leaving:
                self.cancel(sequence)
            self.scheduler.complete(plan)
            self._keep_scored(plan, logits)
            for row, sequence in enumerate(plan.sampled):
                if sequence.is_running:
                    self._append(sequence, int(logits.best[row]))
        self.scheduler.audit()
        return plan

    def run(self, max_steps: int = 1000) -> None:
        """Step until nothing is left."""
        for _ in range(max_steps):
            if self.step() is None:
                break
        assert not self.unfinished
        assert self.scheduler.num_running == self.scheduler.num_waiting == 0
        assert self.blocks.num_available == self.blocks.num_blocks

    def _append(self, sequence: ScheduledSequence, token_id: int) -> None:
        if sequence.max_new_tokens:
            self.scheduler.append(sequence, token_id)
        if len(sequence.generated_ids) < sequence.max_new_tokens:
            return
        prompt_ids = sequence.prompt_ids.tolist()
        expected = self.runner.tokens_alone(prompt_ids, sequence.max_new_tokens)
        assert sequence.generated_ids == expected
        if sequence.wants_prompt_logits:
            best = self.runner.best_within(prompt_ids)
            assert self.scored.get(sequence, []) == list(enumerate(best))
        self.scheduler.finish(sequence)
        self.unfinished.remove(sequence)
        self.finished.append(sequence)

    def _keep_scored(self, plan: Plan, logits: Logits) -> None:
        assert len(logits.best) == len(plan.sampled) + sum(rows.num_rows for rows in plan.scored)
        for rows in plan.scored:
            if not rows.sequence.is_running:
                continue
            best = logits.best[rows.first_row : rows.first_row + rows.num_rows]
            kept = self.scored.setdefault(rows.sequence, [])
            kept += enumerate(best, start=rows.first_position)

    def _check(self, plan: Plan, not_ready: Collection[ScheduledSequence]) -> None:
        assert len(plan.batch.token_ids) <= self.limits.max_tokens_per_step
        assert self.scheduler.num_running <= self.limits.max_sequences
        assert not set(plan.sampled) & set(not_ready)
        for sequence in plan.decodes:
            end = sequence.num_computed + 1
            assert sequence.num_prompt_tokens < end <= sequence.num_tokens
            assert self.blocks.can_write(sequence, end - 1, end)
        for piece in plan.pieces:
            num_prompt_tokens = piece.sequence.num_prompt_tokens
            assert piece.start == piece.sequence.num_computed
            assert piece.stop - piece.start > 1 or num_prompt_tokens == 1
            assert num_prompt_tokens - piece.stop != 1
            assert self.blocks.can_write(piece.sequence, piece.start, piece.stop)
