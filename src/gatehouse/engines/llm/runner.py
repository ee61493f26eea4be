"""What runs the network: tokens of many sequences in, logits out.

Knows nothing of requests, text or sampling; whoever schedules knows nothing of graphs.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

# Less than e to this power beside 1 changes no sum, but is a denormal number, and those take the
# processor up to thirty times as long.
_LEAST_EXPONENT: Final = np.float32(-87)


class AdapterPlace(NamedTuple):
    """Where in the runner's memory a sequence's adapter is: its first row, and the end."""

    begin: int
    end: int


NO_ADAPTER = AdapterPlace(0, 0)


@dataclass(frozen=True, slots=True)
class Batch:
    """Tokens of several sequences, laid end to end, and where their keys and values are kept.

    A sequence's tokens follow those of it that were run before. With one token it is decoded, with
    several it is prefilled: two ways through the attention, whose results differ in the last bits.
    Otherwise what a token gives does not depend on what else is in the batch, nor on where a
    prompt was cut.

    Attributes:
        token_ids: Of shape (num_tokens).
        positions: The place of each token in its sequence; of shape (num_tokens).
        num_past: How many tokens of each sequence were run before; of shape (num_sequences).
        begins: Where each sequence begins in `token_ids`, and the end; (num_sequences + 1).
        block_ids: The blocks of all sequences, in order; of shape (num_blocks).
        block_begins: Where each sequence begins in `block_ids`, and the end; (num_sequences + 1).
        rows: The tokens after which logits are wanted, as places in `token_ids`; (num_rows).
        adapters: The `AdapterPlace` of each sequence; of shape (num_sequences, 2). None if none
            has an adapter.
    """

    token_ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    num_past: NDArray[np.int32]
    begins: NDArray[np.int32]
    block_ids: NDArray[np.int32]
    block_begins: NDArray[np.int32]
    rows: NDArray[np.int64]
    adapters: NDArray[np.int32] | None = None


@dataclass(frozen=True, slots=True)
class Logits:
    """What a batch gave. Valid until the next batch runs.

    Attributes:
        values: Of shape (num_rows, vocabulary_size).
        best: The likeliest token of each row; one that is NaN, if any is.
        highest: Its logit. A row holds NaN, infinity or nothing but minus infinity exactly if
            this is not finite.
    """

    values: NDArray[np.float32]
    best: list[int]
    highest: list[float]

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> "Logits":
        """With the best token of each row."""
        best = values.argmax(-1)
        highest = values[np.arange(len(values)), best]
        return cls(values, best.tolist(), highest.tolist())

    def log_sum(self, row: int) -> float:
        """The logarithm of the sum of a row's exponentials, of which `highest` is finite.

        A logit less this is a log-probability. It costs a few passes over the vocabulary, so it
        is only computed for whoever asks.
        """
        highest = np.float32(self.highest[row])
        weights = self.values[row] - highest
        np.maximum(weights, _LEAST_EXPONENT, out=weights)
        np.exp(weights, out=weights)
        return float(highest + np.log(weights.sum()))


class AdapterStore(Protocol):
    """Adapters in a runner's memory. Used by any thread."""

    def hold(self, key: str, folder: Path) -> AdapterPlace:
        """The place of an adapter, which stays there until `release`; read if it is not there.

        Raises:
            AdapterInvalid: It cannot be run with this model.
            RequestRefused: There is no room for it now.
        """
        ...

    def release(self, key: str) -> None: ...


class ModelRunner(Protocol):
    """One network in memory with its blocks of keys and values. Used by one thread.

    Attributes:
        block_size: Tokens that a block holds.
        num_blocks: Blocks are numbered from 0 to this, exclusive.
        vocabulary_size: Logits of a row.
        adapters: None if it takes none.
    """

    block_size: int
    num_blocks: int
    vocabulary_size: int

    @property
    def adapters(self) -> AdapterStore | None: ...

    def run(self, batch: Batch) -> Logits:
        """Run a batch; its keys and values are in its blocks afterwards.

        Other threads may run meanwhile: the interpreter lock is not held.
        """
        ...

    def memory_bytes(self) -> int:
        """Weights and blocks."""
        ...

    def close(self) -> None:
        """Let go of both."""
        ...
