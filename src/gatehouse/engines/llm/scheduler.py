"""Decides which tokens of which sequences the next step runs. Knows ids only.

Continuous batching: sequences come and go between any two steps. Those that generate get their one
token first; pieces of prompts fill the rest of the step, so that a long prompt holds nobody up.
"""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import chain

from gatehouse.core.errors import Invalid
from gatehouse.engines.llm.block_manager import BlockManager
from gatehouse.engines.llm.plan import Plan, make_plan
from gatehouse.engines.llm.prompt_pieces import PieceCutter, PromptPiece
from gatehouse.engines.llm.scheduled_sequence import ScheduledSequence, SequenceState
from gatehouse.engines.llm.waiting_queue import WaitingQueue
from gatehouse.engines.text.cache_bounds import MAX_RUNNING

_NOBODY: frozenset[ScheduledSequence] = frozenset()


class SequenceTooLong(Invalid):
    """Prompt and new tokens would not fit into the cache even if nothing else ran."""

    def __init__(self, num_tokens: int, max_tokens: int) -> None:
        super().__init__(
            f"the prompt and `max_new_tokens` make {num_tokens:,} tokens, "
            f"but this model has room for {max_tokens:,} tokens here"
        )


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """What a step may be.

    Attributes:
        max_sequences: How many run at once.
        max_tokens_per_step: Generated and prompt tokens together: bounds how long a step takes.
        max_scored_per_step: Prompt tokens run with logits for each: a row is a whole vocabulary,
            and so many of 150,000 tokens take 77 MB.
        patience: For how many steps others may be served before the eldest prompt.
        stream_weight: Each sequence that generates counts as so many tokens: it waits for the
            prompts beside it, so the more there are, the shorter the pieces. With 31 it is a third
            of a step, and such a step takes less than three times one without prompts (measured
            with models of 15 million to 1.1 billion parameters).
        max_rows_guessing: Up to so many generated and guessed tokens are run in a step; more
            than these take longer than reading the weights does.
    """

    max_sequences: int = MAX_RUNNING
    max_tokens_per_step: int = 512
    max_scored_per_step: int = 128
    patience: int = 16
    stream_weight: int = 11
    max_rows_guessing: int = 16

    def __post_init__(self) -> None:
        # A rest of three tokens cannot be cut: no piece may have one token.
        least = self.max_sequences * self.stream_weight + 3
        if self.max_tokens_per_step < least or self.max_scored_per_step < 3:
            raise ValueError("a step must have room for a piece of a prompt beside all sequences")


class Scheduler:
    """Runs sequences through a number of blocks. Used by one thread.

    A step is `plan`, running its batch, `complete`, then for each of `plan.sampled` either `append`
    or `finish`; until then that sequence stands still. `add` and `finish` may come at any time
    between two of these calls.

    Whoever waits is served by priority, then by arrival. But after `patience` steps in a row that
    served others, the eldest whose prompt is not run yet goes first, and nobody is admitted before
    it. The eldest that runs is never preempted. So everyone becomes the eldest one day and then
    gets to the end, however many better ones keep coming.

    Attributes:
        num_preemptions: How often a sequence had to give up its blocks.
    """

    def __init__(self, blocks: BlockManager, limits: SchedulerLimits) -> None:
        self._blocks = blocks
        self._limits = limits
        self._waiting = WaitingQueue()
        self._prefilling: list[ScheduledSequence] = []
        self._decoding: list[ScheduledSequence] = []
        self._num_arrived = 0
        self._num_passed_over = 0  # steps in a row that served others than the eldest
        self.num_preemptions = 0

    @property
    def num_waiting(self) -> int:
        """Sequences that wait, preempted ones among them."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._prefilling) + len(self._decoding)

    def add(self, sequence: ScheduledSequence) -> None:
        """Queue a new sequence.

        Raises:
            SequenceTooLong: It could never run.
        """
        if not self._blocks.can_ever_hold(sequence):
            max_tokens = self._blocks.num_blocks * self._blocks.block_size
            raise SequenceTooLong(sequence.max_tokens, max_tokens)
        sequence.rank = (sequence.priority, self._num_arrived)
        self._num_arrived += 1
        self._waiting.add(sequence)

    def append(
        self, sequence: ScheduledSequence, token_id: int, *, was_guessed: bool = False
    ) -> None:
        """Give a sequence the next token, after a step in which it was sampled.

        Args:
            sequence: As it was after the step.
            token_id: The token.
            was_guessed: It is the next of those that the step ran as guesses.
        """
        assert sequence.num_computed == sequence.num_tokens < sequence.max_tokens
        sequence.generated_ids.append(token_id)
        sequence.num_tokens += 1
        sequence.num_computed += was_guessed

    def room_for_guesses(self, sequence: ScheduledSequence) -> int:
        """How many tokens after the last one may be guessed, and run with it in the next step.

        A sequence gets no block for guesses: they end where its blocks do.
        """
        num_left = sequence.max_tokens - sequence.num_tokens - 1
        share = self._limits.max_rows_guessing // max(1, len(self._decoding))
        block_size = self._blocks.block_size
        num_in_block = block_size - sequence.num_computed % block_size
        return min(num_left, share - 1, num_in_block - 1)

    def finish(self, sequence: ScheduledSequence) -> None:
        """Let go of a sequence in whatever state: it is complete, cancelled or broken.

        Its blocks are free at once. Nothing happens if it is finished already.
        """
        if sequence.is_running:
            self._stop(sequence)
        elif sequence.state is not SequenceState.FINISHED:
            self._waiting.remove(sequence)
        sequence.state = SequenceState.FINISHED
        sequence.prompt_blocks = None

    def plan(self, not_ready: Collection[ScheduledSequence] = _NOBODY) -> Plan | None:
        """Choose what the next step runs.

        Args:
            not_ready: Sequences of which no token can be chosen yet, because their grammar is
                still being read; best a set. They are run up to that point and keep their blocks,
                so it should not last.

        Returns:
            None if there is nothing to run.
        """
        decodes = self._choose_decodes(not_ready)
        num_tokens = self._limits.max_tokens_per_step - len(decodes) * self._limits.stream_weight
        num_tokens -= sum(len(sequence.proposed_ids) for sequence in decodes)
        num_slots = self._limits.max_sequences - self.num_running
        pieces = self._choose_pieces(num_tokens, num_slots, not_ready)
        if not decodes and not pieces:
            return None
        return make_plan(decodes, pieces, self._blocks.block_size)

    def complete(self, plan: Plan) -> None:
        """Note that the plan's batch was run. Sequences finished meanwhile are left out."""
        for sequence in plan.decodes:
            if sequence.state is SequenceState.DECODING:
                sequence.num_computed += 1
                sequence.proposed_ids = []
        for piece in plan.pieces:
            sequence = piece.sequence
            if sequence.state is not SequenceState.PREFILLING:
                continue
            self._blocks.offer_prompt(sequence, piece.stop)
            sequence.num_computed = piece.stop
            sequence.num_scored = max(sequence.num_scored, piece.stop)
            if piece.stop == sequence.num_prompt_tokens:
                sequence.state = SequenceState.DECODING
                self._prefilling.remove(sequence)
                self._decoding.append(sequence)

    def audit(self) -> None:
        """Check that every block is free or held exactly as often as running sequences hold it.

        Raises:
            BlockAccountingBroken: With what is wrong.
        """
        self._blocks.audit(chain(self._prefilling, self._decoding))

    def _choose_decodes(self, not_ready: Collection[ScheduledSequence]) -> list[ScheduledSequence]:
        """Sequences that have a generated token to run, each with a block to run it in."""
        block_size = self._blocks.block_size
        decodes, full = [], []
        for sequence in self._decoding:
            num_computed, num_tokens = sequence.num_computed, sequence.num_tokens
            if num_computed == num_tokens:
                continue
            if not_ready and num_computed + 1 == num_tokens and sequence in not_ready:
                continue
            decodes.append(sequence)
            if num_computed == sequence.num_blocks * block_size:
                full.append(sequence)
        if len(full) <= self._blocks.num_available:
            for sequence in full:
                self._blocks.grow(sequence)
            return decodes
        self._grow_by_preempting(full)
        return [sequence for sequence in decodes if sequence.is_running]

    def _grow_by_preempting(self, full: list[ScheduledSequence]) -> None:
        """Give a block to each that is not preempted for another one."""
        for sequence in full:
            while sequence.is_running and not self._blocks.num_available:
                self._preempt()
            if sequence.is_running:
                self._blocks.grow(sequence)

    def _preempt(self) -> None:
        """Send the running sequence of the worst rank back to wait, but never the eldest."""
        running = self._prefilling + self._decoding
        eldest = min(running, key=lambda sequence: sequence.arrival)
        victim = max(
            (sequence for sequence in running if sequence is not eldest),
            key=lambda sequence: sequence.rank,
        )
        self._stop(victim)
        victim.state = SequenceState.PREEMPTED
        self._waiting.add(victim)
        self.num_preemptions += 1

    def _stop(self, sequence: ScheduledSequence) -> None:
        is_prefilling = sequence.state is SequenceState.PREFILLING
        (self._prefilling if is_prefilling else self._decoding).remove(sequence)
        self._blocks.release(sequence)
        sequence.proposed_ids = []

    def _choose_pieces(
        self, num_tokens: int, num_slots: int, not_ready: Collection[ScheduledSequence]
    ) -> list[PromptPiece]:
        """Pieces of prompts of at most so many tokens, admitting at most so many sequences."""
        if not self._prefilling and not (self._waiting and num_slots):
            return []
        eldest = self._eldest(not_ready)
        cutter = PieceCutter(self._blocks, num_tokens, self._limits.max_scored_per_step)
        for sequence in self._in_order(eldest, num_slots):
            if not cutter.has_room:
                break
            if cutter.is_being_computed(sequence):
                continue
            if not sequence.is_running:
                if not num_slots or not self._admit(sequence):
                    # Nobody behind it is admitted either: else the small ones would always win.
                    num_slots = 0
                    continue
                num_slots -= 1
            cutter.cut(sequence, is_ready=sequence not in not_ready)
        if any(piece.sequence is eldest for piece in cutter.pieces):
            self._num_passed_over = 0
        elif cutter.pieces:
            self._num_passed_over += 1
        return cutter.pieces

    def _eldest(self, not_ready: Collection[ScheduledSequence]) -> ScheduledSequence | None:
        """Whoever came first of all whose prompt is not run yet, save those that run as unready."""
        candidates = [sequence for sequence in self._prefilling if sequence not in not_ready]
        candidates += self._waiting.by_arrival[:1]
        return min(candidates, key=lambda sequence: sequence.arrival, default=None)

    def _in_order(
        self, eldest: ScheduledSequence | None, num_slots: int
    ) -> list[ScheduledSequence]:
        """Whose prompts to run: all admitted, and so many that wait, those of better rank first."""
        candidates = self._prefilling + self._waiting.best(num_slots)
        candidates.sort(key=lambda sequence: sequence.rank)
        if eldest is None or self._num_passed_over < self._limits.patience:
            return candidates
        return [eldest, *(sequence for sequence in candidates if sequence is not eldest)]

    def _admit(self, sequence: ScheduledSequence) -> bool:
        """Let a waiting sequence run if it has room, and one more block for each that runs."""
        if not self._blocks.allocate(sequence, num_spare=self.num_running):
            return False
        self._waiting.remove(sequence)
        sequence.state = SequenceState.PREFILLING
        self._prefilling.append(sequence)
        return True
