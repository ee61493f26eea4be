"""A model runner in numpy whose logits tell apart every history, and how it was run.

What it keeps of a token depends on the token, its position, whether it was decoded or prefilled,
and on all tokens before it as they stand in the blocks. So a wrong block, a stale one, a prompt cut
wrongly or a replay that is prefilled gives other tokens than `tokens_alone`.
"""

import numpy as np
from numpy.typing import NDArray

from gatehouse.engines.llm.runner import Batch, Logits

_WORD = (1 << 64) - 1
_NUM_ROWS = 509


def _mix(word: int) -> int:
    """Spread every bit over the word (the finisher of splitmix64)."""
    word = (word + 0x9E3779B97F4A7C15) & _WORD
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return word ^ (word >> 31)


def _next_history(history: int, token_id: int, position: int, is_decoded: bool) -> int:
    return (history + _kept(history, token_id, position, is_decoded) * (2 * position + 1)) & _WORD


def _kept(history: int, token_id: int, position: int, is_decoded: bool) -> int:
    return _mix(history ^ _mix(2 * token_id + is_decoded) ^ position)


class FakeRunner:
    """A `ModelRunner` that also checks that batches keep the rules.

    Attributes:
        num_tokens_run: Of all batches.
    """

    def __init__(self, num_blocks: int, block_size: int = 4, vocabulary_size: int = 61) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.vocabulary_size = vocabulary_size
        self.adapters = None
        self.num_tokens_run = 0
        random = np.random.default_rng(0)
        self._rows = random.normal(size=(_NUM_ROWS, vocabulary_size)).astype(np.float32)
        self._best = self._rows.argmax(axis=1)
        self._kept = np.zeros((num_blocks, block_size), np.uint64)
        self._is_written = np.zeros((num_blocks, block_size), np.bool_)
        self._is_decoded = np.zeros((num_blocks, block_size), np.bool_)

    def tokens_alone(self, prompt_ids: list[int], num_new_tokens: int) -> list[int]:
        """The likeliest tokens after a prompt, one after the other, without any blocks."""
        history = 0
        for position, token_id in enumerate(prompt_ids):
            history = _next_history(history, token_id, position, len(prompt_ids) == 1)
        generated: list[int] = []
        while len(generated) < num_new_tokens:
            generated.append(int(self._best[_mix(history) % _NUM_ROWS]))
            position = len(prompt_ids) + len(generated) - 1
            history = _next_history(history, generated[-1], position, True)
        return generated

    def best_within(self, prompt_ids: list[int]) -> list[int]:
        """The likeliest token after each of a prompt's tokens, the last excepted."""
        best: list[int] = []
        history = 0
        for position, token_id in enumerate(prompt_ids[:-1]):
            history = _next_history(history, token_id, position, False)
            best.append(int(self._best[_mix(history) % _NUM_ROWS]))
        return best

    def run(self, batch: Batch) -> Logits:
        self._check(batch)
        histories: list[int] = []
        for index, past in enumerate(batch.num_past.tolist()):
            tokens = batch.token_ids[batch.begins[index] : batch.begins[index + 1]].tolist()
            histories += self._run_sequence(tokens, past, self._table(batch, index))
        rows = [_mix(histories[place]) % _NUM_ROWS for place in batch.rows.tolist()]
        self.num_tokens_run += len(histories)
        return Logits.of(self._rows[rows])

    def memory_bytes(self) -> int:
        return self._rows.nbytes + self._kept.nbytes

    def close(self) -> None:
        self._kept = np.zeros((0, self.block_size), np.uint64)

    def _table(self, batch: Batch, index: int) -> NDArray[np.int32]:
        return batch.block_ids[batch.block_begins[index] : batch.block_begins[index + 1]]

    def _run_sequence(self, tokens: list[int], past: int, table: NDArray[np.int32]) -> list[int]:
        kept = self._kept[table].reshape(-1)
        is_decoded = len(tokens) == 1
        assert self._is_written[table].reshape(-1)[:past].all(), "a token was never run"
        if not is_decoded:
            assert not self._is_decoded[table].reshape(-1)[:past].any(), "prefill after decode"
        weights = np.arange(past, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        history = int((kept[:past] * weights).sum(dtype=np.uint64))
        histories = []
        for position, token_id in enumerate(tokens, start=past):
            place = table[position // self.block_size], position % self.block_size
            self._kept[place] = _kept(history, token_id, position, is_decoded)
            self._is_written[place] = True
            self._is_decoded[place] = is_decoded
            history = _next_history(history, token_id, position, is_decoded)
            histories.append(history)
        return histories

    def _check(self, batch: Batch) -> None:
        """Whether the arrays agree with each other, and nobody writes what another one reads."""
        dtypes = [array.dtype for array in (batch.token_ids, batch.positions, batch.rows)]
        assert dtypes == [np.dtype(np.int64)] * 3
        small = (batch.num_past, batch.begins, batch.block_ids, batch.block_begins)
        assert [array.dtype for array in small] == [np.dtype(np.int32)] * 4
        assert batch.begins[-1] == len(batch.token_ids) == len(batch.positions) > 0
        assert batch.block_begins[-1] == len(batch.block_ids)
        assert len(batch.begins) == len(batch.block_begins) == len(batch.num_past) + 1
        assert ((batch.block_ids >= 0) & (batch.block_ids < self.num_blocks)).all()
        assert len(set(batch.rows.tolist())) == len(batch.rows)
        num_readers = np.bincount(batch.block_ids, minlength=self.num_blocks)
        for index, past in enumerate(batch.num_past.tolist()):
            begin, end = batch.begins[index : index + 2].tolist()
            table = self._table(batch, index)
            assert batch.positions[begin:end].tolist() == list(range(past, past + end - begin))
            assert end > begin
            assert len(table) == -(-(past + end - begin) // self.block_size)
            written = table[past // self.block_size :]
            assert (num_readers[written] == 1).all(), "a block is written that is shared"
