"""Blocks of the key-value cache: who holds them, and which are found again by what is in them.

Knows neither sequences nor what a key or a value is.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gatehouse.core.errors import GatehouseError

NO_BLOCK = -1


class BlockAccountingBroken(GatehouseError):
    """The books of the blocks contradict themselves or what sequences hold."""


class PromptBlock(NamedTuple):
    """What a block full of prompt tokens holds.

    Attributes:
        digest: Of the salt and all tokens of the prompt up to the end of this block.
        salt: Names those who may see that this prompt was run before.
        token_ids: Of this block alone, as bytes of int64.
    """

    digest: bytes
    salt: bytes
    token_ids: bytes


def prompt_blocks(
    prompt_ids: NDArray[np.int64], block_size: int, salt: bytes
) -> tuple[PromptBlock, ...]:
    """The full blocks of a prompt, each with a digest chained to the one before."""
    blocks = []
    digest = blake2b(salt, digest_size=16, person=b"salt").digest()
    for start in range(0, len(prompt_ids) - block_size + 1, block_size):
        token_ids = prompt_ids[start : start + block_size].tobytes()
        digest = blake2b(digest + token_ids, digest_size=16, person=b"block").digest()
        blocks.append(PromptBlock(digest, salt, token_ids))
    return tuple(blocks)


class _Offer(NamedTuple):
    """A block that others may find. `parent` is the block before it, `NO_BLOCK` for the first."""

    content: PromptBlock
    parent: int


class BlockPool:
    """Which blocks are blank, held, or kept with a content that may be wanted again.

    A block on offer stays findable after its last holder until the room is needed; those unused
    for longest go first. Whoever holds a block on offer must hold its parent too and release it
    later: so a parent is never overwritten while its child can be found, and comparing a block's
    own tokens and its parent compares the whole prompt, whatever the digests are.
    """

    def __init__(self, num_blocks: int) -> None:
        self._num_holders = [0] * num_blocks
        self._blank = list(range(num_blocks - 1, -1, -1))
        self._idle: OrderedDict[int, None] = (
            OrderedDict()
        )  # on offer, without holders; oldest first
        self._offers: list[_Offer | None] = [None] * num_blocks
        self._by_digest: dict[bytes, int] = {}

    @property
    def num_available(self) -> int:
        """Blocks that `allocate` can give: the blank ones and those kept without holders."""
        return len(self._blank) + len(self._idle)

    def allocate(self) -> int:
        """A block to write into, held once. One must be available."""
        if self._blank:
            block_id = self._blank.pop()
        else:
            block_id, _ = self._idle.popitem(last=False)
            offer = self._offers[block_id]
            assert offer is not None
            del self._by_digest[offer.content.digest]
            self._offers[block_id] = None
        self._num_holders[block_id] = 1
        return block_id

    def acquire(self, block_id: int) -> None:
        """Hold a block that `find` gave, once more."""
        if not self._num_holders[block_id]:
            del self._idle[block_id]
        self._num_holders[block_id] += 1

    def release(self, block_id: int) -> None:
        """Hold a block once less."""
        self._num_holders[block_id] -= 1
        if self._num_holders[block_id]:
            return
        if self._offers[block_id] is None:
            self._blank.append(block_id)
        else:
            self._idle[block_id] = None

    def is_held(self, block_id: int) -> bool:
        return self._num_holders[block_id] > 0

    def is_writable(self, block_id: int) -> bool:
        """Whether one holder has the block to itself: nobody else has it, nobody can find it."""
        return self._num_holders[block_id] == 1 and self._offers[block_id] is None

    def find(self, content: PromptBlock, parent: int) -> int | None:
        """The block on offer with this content after that parent. It is not held by this."""
        block_id = self._by_digest.get(content.digest)
        if block_id is None or self._offers[block_id] != (content, parent):
            return None
        return block_id

    def offer(self, block_id: int, content: PromptBlock, parent: int) -> int:
        """Let others find a block that is written and held once.

        Returns:
            The block to hold from now on: another one if that content was on offer already.
        """
        known = self._by_digest.get(content.digest)
        if known is None:
            if parent == NO_BLOCK or self._offers[parent] is not None:
                self._by_digest[content.digest] = block_id
                self._offers[block_id] = _Offer(content, parent)
            return block_id
        if known == block_id or self._offers[known] != (content, parent):
            return block_id
        self.acquire(known)
        self.release(block_id)
        return known

    def audit(self, holdings: Iterable[Iterable[int]]) -> None:
        """Check the books against themselves and against what every holder says it holds.

        Raises:
            BlockAccountingBroken: With what is wrong.
        """
        held = Counter(block_id for holding in holdings for block_id in holding)
        blank, idle = set(self._blank), set(self._idle)
        if len(blank) != len(self._blank):
            raise BlockAccountingBroken("a block is blank twice")
        for block_id, num_holders in enumerate(self._num_holders):
            if num_holders != held[block_id]:
                raise BlockAccountingBroken(
                    f"block {block_id} counts {num_holders} holders and has {held[block_id]}"
                )
            if (block_id in blank) + (block_id in idle) + (num_holders > 0) != 1:
                raise BlockAccountingBroken(f"block {block_id} is not in exactly one place")
            self._audit_offer(block_id, block_id in blank, block_id in idle)
        if len(self._by_digest) != sum(offer is not None for offer in self._offers):
            raise BlockAccountingBroken("a digest leads to no block")

    def _audit_offer(self, block_id: int, is_blank: bool, is_idle: bool) -> None:
        offer = self._offers[block_id]
        if (offer is None and is_idle) or (offer is not None and is_blank):
            raise BlockAccountingBroken(f"block {block_id} is kept for nothing, or blank on offer")
        if offer is None:
            return
        if self._by_digest.get(offer.content.digest) != block_id:
            raise BlockAccountingBroken(f"block {block_id} is on offer and cannot be found")
        if offer.parent != NO_BLOCK and self._offers[offer.parent] is None:
            raise BlockAccountingBroken(f"block {block_id} outlived the block before it")
