import numpy as np
import pytest
from greedy_loop import GreedyLoop

from gatehouse.engines.llm import blocks as blocks_module
from gatehouse.engines.llm.block_manager import BlockManager
from gatehouse.engines.llm.blocks import (
    NO_BLOCK,
    BlockAccountingBroken,
    BlockPool,
    PromptBlock,
    prompt_blocks,
)


def content(name: str, salt: bytes = b"", tokens: bytes = b"") -> PromptBlock:
    return PromptBlock(name.encode(), salt, tokens)


def digests(prompt_ids: list[int], salt: bytes = b"") -> list[bytes]:
    blocks = prompt_blocks(np.array(prompt_ids, np.int64), 2, salt)
    return [block.digest for block in blocks]


def offered(pool: BlockPool, *names: str) -> list[int]:
    """Blocks with these contents, each after the one before, held once."""
    block_ids: list[int] = []
    for name in names:
        parent = block_ids[-1] if block_ids else NO_BLOCK
        block_ids.append(pool.offer(pool.allocate(), content(name), parent))
    return block_ids


def release_all(pool: BlockPool, block_ids: list[int]) -> None:
    for block_id in reversed(block_ids):
        pool.release(block_id)


def test_only_full_blocks_of_a_prompt_have_digests() -> None:
    assert [len(digests([1] * length)) for length in range(6)] == [0, 0, 1, 1, 2, 2]


def test_a_digest_says_all_that_came_before_and_for_whom() -> None:
    one, two = digests([1, 2, 3, 4])
    assert digests([1, 2, 3, 5])[0] == one
    assert digests([1, 2, 3, 5])[1] != two
    assert digests([1, 9, 3, 4])[1] != two
    assert digests([3, 4])[0] != two
    assert not set(digests([1, 2, 3, 4], b"secret")) & {one, two}


def test_every_block_can_be_allocated_once() -> None:
    pool = BlockPool(3)
    taken = {pool.allocate() for _ in range(3)}
    assert taken == {0, 1, 2}
    assert pool.num_available == 0
    pool.audit([taken])
    pool.release(1)
    assert pool.num_available == 1
    assert pool.allocate() == 1


def test_a_content_is_found_after_its_last_holder() -> None:
    pool = BlockPool(3)
    first, second = offered(pool, "a", "b")
    release_all(pool, [first, second])
    assert pool.num_available == 3
    assert pool.find(content("a"), NO_BLOCK) == first
    assert pool.find(content("b"), first) == second
    pool.acquire(first)
    pool.audit([[first]])
    assert pool.num_available == 2
    assert not pool.is_writable(first)


def test_what_was_unused_for_longest_is_overwritten_first() -> None:
    pool = BlockPool(3)
    older, newer, used_again = (offered(pool, name)[0] for name in "abc")
    for block_id in (used_again, older, newer):
        pool.release(block_id)
    pool.acquire(used_again)
    pool.release(used_again)
    assert [pool.allocate(), pool.allocate()] == [older, newer]
    assert pool.find(content("a"), NO_BLOCK) is None
    assert pool.find(content("c"), NO_BLOCK) == used_again
    pool.audit([[older], [newer]])


def test_blank_blocks_are_taken_before_contents_are_lost() -> None:
    pool = BlockPool(3)
    (kept,) = offered(pool, "a")
    pool.release(kept)
    assert kept not in {pool.allocate(), pool.allocate()}


def test_a_block_is_overwritten_before_the_one_it_continues() -> None:
    pool = BlockPool(3)
    chain = offered(pool, "a", "b", "c")
    release_all(pool, chain)
    for expected in reversed(chain):
        assert pool.allocate() == expected


def test_the_same_content_is_kept_once() -> None:
    pool = BlockPool(4)
    (first,) = offered(pool, "a")
    second = pool.allocate()
    assert pool.offer(second, content("a"), NO_BLOCK) == first
    pool.audit([[first], [first]])
    assert pool.num_available == 3
    assert pool.offer(first, content("a"), NO_BLOCK) == first
    pool.audit([[first], [first]])


def test_a_digest_that_collides_finds_nothing() -> None:
    pool = BlockPool(4)
    block_id = pool.offer(pool.allocate(), content("same", b"mine", b"tokens"), NO_BLOCK)
    assert pool.find(content("same", b"mine", b"tokens"), NO_BLOCK) == block_id
    assert pool.find(content("same", b"mine", b"others"), NO_BLOCK) is None
    assert pool.find(content("same", b"yours", b"tokens"), NO_BLOCK) is None
    assert pool.find(content("same", b"mine", b"tokens"), 3) is None
    own = pool.allocate()
    assert pool.offer(own, content("same", b"yours", b"tokens"), NO_BLOCK) == own
    assert pool.is_writable(own)


def test_what_continues_a_block_that_cannot_be_found_is_not_offered() -> None:
    pool = BlockPool(4)
    parent, child = pool.allocate(), pool.allocate()
    assert pool.offer(child, content("b"), parent) == child
    assert pool.find(content("b"), parent) is None
    pool.audit([[parent, child]])


def test_sequences_keep_apart_when_all_digests_collide(monkeypatch: pytest.MonkeyPatch) -> None:
    class Constant:
        def digest(self) -> bytes:
            return b"same"

    monkeypatch.setattr(blocks_module, "blake2b", lambda *_, **__: Constant())
    loop = GreedyLoop()
    for start in range(6):
        loop.add([start // 2] * 14 + [start])
    loop.run()
    assert len(loop.finished) == 6


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda pool: pool._num_holders.__setitem__(0, 2), "counts 2 holders"),
        (lambda pool: pool.release(0), "counts 0 holders"),
        (lambda pool: pool._blank.append(0), "not in exactly one place"),
        (lambda pool: pool._blank.append(pool._blank[0]), "blank twice"),
        (lambda pool: pool._blank.pop(), "not in exactly one place"),
        (lambda pool: pool._by_digest.clear(), "cannot be found"),
        (lambda pool: pool._by_digest.update(x=2), "leads to no block"),
        (lambda pool: pool._offers.__setitem__(1, None), "kept for nothing"),
    ],
)
def test_the_audit_finds_damage(damage: object, message: str) -> None:
    pool = BlockPool(5)
    held, idle = offered(pool, "a")[0], offered(pool, "b")[0]
    pool.release(idle)
    assert (held, idle) == (0, 1)
    pool.audit([[held]])
    assert callable(damage)
    damage(pool)
    with pytest.raises(BlockAccountingBroken, match=message):
        pool.audit([[held]])


def test_the_audit_finds_a_block_that_outlived_its_parent() -> None:
    pool = BlockPool(4)
    chain = offered(pool, "a", "b")
    for block_id in chain:  # the wrong way round
        pool.release(block_id)
    taken = [pool.allocate() for _ in range(3)]
    with pytest.raises(BlockAccountingBroken, match="outlived"):
        pool.audit([taken])


def test_a_block_of_one_token_is_refused() -> None:
    with pytest.raises(ValueError, match="one token"):
        BlockManager(4, 1)
