"""Packs encoded documents into rows of one length, so that no step is spent on padding."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import torch

IGNORED: Final = -100


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of one document, and for each the target (`IGNORED`: nothing to learn)."""

    ids: list[int]
    targets: list[int]


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's input, each tensor of shape (rows, row_length).

    Attributes:
        positions: Counts from 0 in a document; `transformers` stops attention where they restart.
        targets: The token that follows, or `IGNORED`.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor


class _Row:
    def __init__(self) -> None:
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.targets: list[int] = []

    def append(self, ids: list[int], targets: list[int]) -> None:
        self.ids += ids
        self.positions += range(len(ids))
        self.targets += [*targets[1:], IGNORED]


def pack(examples: Iterable[Example], *, rows: int, row_length: int) -> Iterator[Batch]:
    """Fill batches first-fit; an example longer than a row is left out, row ends are padding.

    Ends with the examples; a batch that is not full is dropped.
    """
    current = [_Row() for _ in range(rows)]
    missed = 0
    for example in examples:
        length = len(example.ids)
        if length > row_length:
            continue
        row = next((each for each in current if len(each.ids) + length <= row_length), None)
        if row is not None:
            row.append(example.ids, example.targets)
            continue
        missed += 1
        if missed > rows:
            yield _close(current, row_length)
            current, missed = [_Row() for _ in range(rows)], 0
            current[0].append(example.ids, example.targets)


def _close(rows: list[_Row], row_length: int) -> Batch:
    for row in rows:
        rest = row_length - len(row.ids)
        if rest:
            row.append([0] * rest, [IGNORED] * rest)
    return Batch(
        torch.tensor([row.ids for row in rows]),
        torch.tensor([row.positions for row in rows]),
        torch.tensor([row.targets for row in rows]),
    )
