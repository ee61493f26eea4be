"""What one step runs, laid out as the batch for the model runner."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from gatehouse.engines.llm.prompt_pieces import PromptPiece
from gatehouse.engines.llm.runner import NO_ADAPTER, Batch
from gatehouse.engines.llm.scheduled_sequence import ScheduledSequence


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """Logits after tokens of a prompt.

    Row `first_row + i` of the logits is the one after the prompt token at `first_position + i`,
    and so tells how likely the prompt token after that was. The logits after the last prompt token
    are not among them: they give the first new token.
    """

    sequence: ScheduledSequence
    first_row: int
    first_position: int
    num_rows: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One step. A plan that is not completed is as if it had not been made.

    Attributes:
        batch: To be run.
        sampled: Row `i` of the logits gives the next token of `sampled[i]`.
        scored: What the rows after those are.
        decodes: Sequences of which one generated token is run. Those that are not in `sampled`
            are replayed: they catch up with tokens that they had before they were preempted.
        pieces: Parts of prompts that are run.
    """

    batch: Batch
    sampled: list[ScheduledSequence]
    scored: list[ScoredRows]
    decodes: list[ScheduledSequence]
    pieces: list[PromptPiece]


def make_plan(decodes: list[ScheduledSequence], pieces: list[PromptPiece], block_size: int) -> Plan:
    """Lay out one token of each of `decodes`, then the pieces. There must be any."""
    sampled, rows = _sampled(decodes, pieces)
    scored, scored_rows = _scored(pieces, len(decodes), len(sampled))
    pasts = [sequence.num_computed for sequence in decodes]
    pasts += [piece.start for piece in pieces]
    ends = [past + 1 for past in pasts[: len(decodes)]] + [piece.stop for piece in pieces]
    sequences = decodes + [piece.sequence for piece in pieces]
    nums_blocks = [-(-end // block_size) for end in ends]
    tables = [
        sequence.block_ids[:num_blocks]
        for sequence, num_blocks in zip(sequences, nums_blocks, strict=True)
    ]
    batch = Batch(
        token_ids=_token_ids(decodes, pieces),
        positions=_positions(pasts[: len(decodes)], pieces),
        num_past=np.array(pasts, np.int32),
        begins=_begins([end - past for past, end in zip(pasts, ends, strict=True)]),
        block_ids=np.concatenate(tables),
        block_begins=_begins(nums_blocks),
        rows=np.concatenate([np.array(rows, np.int64), *scored_rows]),
        adapters=_adapters(sequences),
    )
    return Plan(batch, sampled, scored, decodes, pieces)


def _sampled(
    decodes: list[ScheduledSequence], pieces: list[PromptPiece]
) -> tuple[list[ScheduledSequence], list[int]]:
    """Sequences whose last known token is run, and where in the batch it is."""
    sampled, rows = [], []
    for place, sequence in enumerate(decodes):
        if sequence.num_computed + 1 == sequence.num_tokens:
            sampled.append(sequence)
            rows.append(place)
    end = len(decodes)
    for piece in pieces:
        end += piece.stop - piece.start
        if piece.stop == piece.sequence.num_tokens:
            sampled.append(piece.sequence)
            rows.append(end - 1)
    return sampled, rows


def _scored(
    pieces: list[PromptPiece], begin: int, row: int
) -> tuple[list[ScoredRows], list[NDArray[np.int64]]]:
    """The logits wanted within pieces, which begin at a place in the batch and a row."""
    scored, places = [], []
    for piece in pieces:
        sequence = piece.sequence
        first = max(piece.start, sequence.num_scored)
        num_rows = min(piece.stop, sequence.num_prompt_tokens - 1) - first
        if sequence.wants_prompt_logits and num_rows > 0:
            scored.append(ScoredRows(sequence, row, first, num_rows))
            place = begin + first - piece.start
            places.append(np.arange(place, place + num_rows))
            row += num_rows
        begin += piece.stop - piece.start
    return scored, places


def _token_ids(decodes: list[ScheduledSequence], pieces: list[PromptPiece]) -> NDArray[np.int64]:
    last = [
        sequence.generated_ids[sequence.num_computed - sequence.num_prompt_tokens]
        for sequence in decodes
    ]
    prompts = [piece.sequence.prompt_ids[piece.start : piece.stop] for piece in pieces]
    return np.concatenate([np.array(last, np.int64), *prompts])


def _positions(decoded: list[int], pieces: list[PromptPiece]) -> NDArray[np.int64]:
    prompts = [np.arange(piece.start, piece.stop) for piece in pieces]
    return np.concatenate([np.array(decoded, np.int64), *prompts])


def _adapters(sequences: list[ScheduledSequence]) -> NDArray[np.int32] | None:
    if all(sequence.adapter is NO_ADAPTER for sequence in sequences):
        return None
    return np.array([sequence.adapter for sequence in sequences], np.int32)


def _begins(lengths: Sequence[int]) -> NDArray[np.int32]:
    return np.array(list(accumulate(lengths, initial=0)), np.int32)
