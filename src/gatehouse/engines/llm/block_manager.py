"""Gives sequences their blocks, shares those of common prompts, and takes them back."""

from collections.abc import Iterable

import numpy as np

from gatehouse.engines.llm.blocks import NO_BLOCK, BlockPool, PromptBlock, prompt_blocks
from gatehouse.engines.llm.scheduled_sequence import ScheduledSequence


class BlockManager:
    """The blocks of all sequences.

    Only full blocks of prompts are shared: keys and values of generated tokens differ in their
    last bits from those that a prompt of the same tokens gives. At least two tokens of a prompt
    are always left to run: one alone would be decoded, which differs too.
    """

    def __init__(self, num_blocks: int, block_size: int, reuse_prefixes: bool = True) -> None:
        if block_size < 2:
            raise ValueError("a block of one token could not be filled by a prefill")
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._reuse_prefixes = reuse_prefixes
        self._pool = BlockPool(num_blocks)

    @property
    def num_available(self) -> int:
        """Blocks that no sequence holds."""
        return self._pool.num_available

    def can_ever_hold(self, sequence: ScheduledSequence) -> bool:
        """Whether it fits when it is alone, with all tokens that it may get."""
        return self._num_blocks_for(sequence.max_tokens) <= self.num_blocks

    def allocate(self, sequence: ScheduledSequence, num_spare: int) -> bool:
        """Give a sequence that holds nothing the blocks for its tokens.

        What is cached of its prompt counts as computed afterwards.

        Args:
            sequence: Without blocks.
            num_spare: How many blocks must be available afterwards.

        Returns:
            Whether there was room; otherwise nothing was done.
        """
        num_needed = self._num_blocks_for(sequence.num_tokens)
        cached = self._cached_from_here(sequence)
        num_taken = num_needed - sum(self._pool.is_held(block_id) for block_id in cached)
        if num_taken + num_spare > self._pool.num_available:
            return False
        for block_id in cached:
            self._pool.acquire(block_id)
        blank = [self._pool.allocate() for _ in range(num_needed - len(cached))]
        sequence.block_ids = np.empty(self._num_blocks_for(sequence.max_tokens), np.int32)
        sequence.block_ids[:num_needed] = cached + blank
        sequence.num_blocks = num_needed
        sequence.num_computed = sequence.num_cached = len(cached) * self.block_size
        return True

    def grow(self, sequence: ScheduledSequence) -> None:
        """Give a running sequence one more block. One must be available."""
        sequence.block_ids[sequence.num_blocks] = self._pool.allocate()
        sequence.num_blocks += 1

    def release(self, sequence: ScheduledSequence) -> None:
        """Take back all blocks of a sequence, whose tokens are then no longer computed."""
        # The last first: a block must not outlive the one before it.
        for block_id in reversed(self._held_by(sequence)):
            self._pool.release(block_id)
        sequence.num_blocks = sequence.num_computed = 0

    def skip_cached(self, sequence: ScheduledSequence) -> None:
        """Take over what others have computed of the rest of a prompt meanwhile."""
        cached = self._cached_from_here(sequence)
        if not cached:
            return
        index = sequence.num_computed // self.block_size
        for place, block_id in enumerate(cached, start=index):
            self._pool.acquire(block_id)
            self._pool.release(int(sequence.block_ids[place]))
            sequence.block_ids[place] = block_id
        num_computed = (index + len(cached)) * self.block_size
        sequence.num_cached += num_computed - sequence.num_computed
        sequence.num_computed = num_computed

    def next_missing(self, sequence: ScheduledSequence) -> PromptBlock | None:
        """The first block that has to be computed, if it is one that others could share."""
        index = sequence.num_computed // self.block_size + len(self._cached_from_here(sequence))
        if index >= self._num_reusable(sequence):
            return None
        return self._prompt_blocks(sequence)[index]

    def prompt_blocks_within(
        self, sequence: ScheduledSequence, start: int, stop: int
    ) -> tuple[PromptBlock, ...]:
        """The blocks that others may want with prompt tokens between two positions in them."""
        if not self._reuse_prefixes:
            return ()
        size = self.block_size
        return self._prompt_blocks(sequence)[start // size : self._num_blocks_for(stop)]

    def offer_prompt(self, sequence: ScheduledSequence, stop: int) -> None:
        """Let others find the blocks of a prompt that was computed up to a position.

        To be called before `num_computed` says so.
        """
        if not self._reuse_prefixes:
            return
        start = sequence.num_computed // self.block_size
        parent = int(sequence.block_ids[start - 1]) if start else NO_BLOCK
        contents = self._prompt_blocks(sequence)[start : stop // self.block_size]
        for place, content in enumerate(contents, start):
            block_id = int(sequence.block_ids[place])
            parent = self._pool.offer(block_id, content, parent)
            sequence.block_ids[place] = parent

    def audit(self, sequences: Iterable[ScheduledSequence]) -> None:
        """Check that every block is free or held exactly as often as these sequences hold it.

        Raises:
            BlockAccountingBroken: With what is wrong.
        """
        self._pool.audit(self._held_by(sequence) for sequence in sequences)

    def can_write(self, sequence: ScheduledSequence, start: int, stop: int) -> bool:
        """Whether the blocks of these positions are the sequence's alone."""
        places = range(start // self.block_size, self._num_blocks_for(stop))
        return all(self._pool.is_writable(int(sequence.block_ids[place])) for place in places)

    def _num_blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def _held_by(self, sequence: ScheduledSequence) -> list[int]:
        held: list[int] = sequence.block_ids[: sequence.num_blocks].tolist()
        return held

    def _prompt_blocks(self, sequence: ScheduledSequence) -> tuple[PromptBlock, ...]:
        if sequence.prompt_blocks is None:
            sequence.prompt_blocks = prompt_blocks(
                sequence.prompt_ids, self.block_size, sequence.salt
            )
        return sequence.prompt_blocks

    def _num_reusable(self, sequence: ScheduledSequence) -> int:
        if sequence.wants_prompt_logits or not self._reuse_prefixes:
            return 0
        return max(0, sequence.num_prompt_tokens - 2) // self.block_size

    def _cached_from_here(self, sequence: ScheduledSequence) -> list[int]:
        """Blocks on offer that continue what was computed of a prompt, without a gap."""
        start, stop = sequence.num_computed // self.block_size, self._num_reusable(sequence)
        if start >= stop:
            return []
        cached: list[int] = []
        parent = int(sequence.block_ids[start - 1]) if start else NO_BLOCK
        for content in self._prompt_blocks(sequence)[start:stop]:
            found = self._pool.find(content, parent)
            if found is None:
                break
            cached.append(found)
            parent = found
        return cached
