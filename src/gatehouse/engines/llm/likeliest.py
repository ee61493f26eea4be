"""The largest of a row of scores, and a draw among all of them, without sorting the row.

A row is seen as columns: the k-th largest of their maxima cannot be above the k-th largest of all.
Passes over a vocabulary cost microseconds, sorting it costs milliseconds.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_NUM_ROWS: Final = 64
# A sum in float64 of fewer weights is cheaper than one by columns.
_FEW: Final = 2048


def indices_of_largest(
    scores: NDArray[np.float32], num_wanted: int, slack: float = 0.0
) -> NDArray[np.int64]:
    """Where the `num_wanted` largest scores are, and all that equal the last of them; ascending.

    Minus infinity is not among them: there may be fewer.

    Args:
        scores: None is NaN.
        num_wanted: At least 1.
        slack: Also those that are only this share of themselves (and 1e-28) below the last one.
    """
    if num_wanted >= len(scores):
        return np.flatnonzero(scores > -np.inf)
    floor = _lower_bound(scores, num_wanted)
    if floor == -np.inf:
        indices = np.flatnonzero(scores > floor)
    else:
        indices = np.flatnonzero(scores >= floor - _margin(floor, slack))
    if len(indices) > num_wanted:
        found = scores[indices]
        last = np.partition(found, len(found) - num_wanted)[len(found) - num_wanted]
        indices = indices[found >= last - _margin(last, slack)]
    return indices


def largest_first(scores: NDArray[np.float32], num_wanted: int) -> NDArray[np.int64]:
    """Where the `num_wanted` largest scores are, the largest first, and among equals the first."""
    indices = indices_of_largest(scores, num_wanted)
    order = np.argsort(-scores[indices], kind="stable")
    return indices[order[:num_wanted]]


def draw(weights: NDArray[np.float32], uniform: float) -> int:
    """An index, each with a probability in proportion to its weight.

    By inversion: the smallest index up to which the weights sum to `uniform` of the whole.

    Args:
        weights: At least 0, their sum above 0 and finite.
        uniform: Above 0, at most 1.
    """
    if len(weights) <= _FEW:
        return _invert(weights, uniform)[0]
    columns, rest = _columns(weights)
    column, uniform = _invert(np.concatenate((columns.sum(axis=0), rest)), uniform)
    width = int(columns.shape[1])
    if column >= width:
        return columns.size + column - width
    return _invert(columns[:, column], uniform)[0] * width + column


def _invert(weights: NDArray[np.float32], uniform: float) -> tuple[int, float]:
    """The index drawn, and how far into its weight: itself uniform, and used for a second draw."""
    sums = np.cumsum(weights, dtype=np.float64)
    target = uniform * sums[-1]
    index = int(np.searchsorted(sums, target))
    before = sums[index - 1] if index else 0.0
    return index, float((target - before) / (sums[index] - before))


def _lower_bound(scores: NDArray[np.float32], num_wanted: int) -> np.float32:
    """At most the `num_wanted`-th largest score."""
    maxima = _columns(scores)[0].max(axis=0)
    if num_wanted > len(maxima):
        maxima = scores
    place = len(maxima) - num_wanted
    return np.float32(np.partition(maxima, place)[place])


def _columns(row: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A row as a table, which is a view of it, and what is left over at its end."""
    width = len(row) // _NUM_ROWS
    return row[: _NUM_ROWS * width].reshape(_NUM_ROWS, width), row[_NUM_ROWS * width :]


def _margin(value: np.float32, slack: float) -> np.float32:
    return np.float32(abs(value) * slack + (1e-28 if slack else 0.0))
