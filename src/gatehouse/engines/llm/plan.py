"""What one step runs, laid out as the batch for the model runner."""

from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

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
class ProposedRows:
    """Logits after guesses. Row `first_row + i` is the one after `ids[i]`."""

    first_row: int
    ids: list[int]


@dataclass(frozen=True, slots=True)
class Plan:
    """One step. A plan that is not completed is as if it had not been made.

    Attributes:
        batch: To be run.
        sampled: Row `i` of the logits gives the next token of `sampled[i]`.
        proposed: What the rows after those are, of sequences in `sampled` whose next tokens were
            guessed and are run too.
        scored: What the rows after those are.
        decodes: Sequences of which one generated token is run. Those that are not in `sampled`
            are replayed: they catch up with tokens that they had before they were preempted.
        pieces: Parts of prompts that are run.
    """

    batch: Batch
    sampled: list[ScheduledSequence]
    proposed: dict[ScheduledSequence, ProposedRows]
    scored: list[ScoredRows]
    decodes: list[ScheduledSequence]
    pieces: list[PromptPiece]


class _Stretch(NamedTuple):
    """Tokens of one sequence that are run, the first of them at a position."""

    sequence: ScheduledSequence
    start: int
    ids: NDArray[np.int64]


def make_plan(decodes: list[ScheduledSequence], pieces: list[PromptPiece], block_size: int) -> Plan:
    """Lay out one token of each of `decodes`, with guesses if it has any, then the pieces.

    There must be any.
    """
    single = [sequence for sequence in decodes if not sequence.proposed_ids]
    guessed = [_guessed(sequence) for sequence in decodes if sequence.proposed_ids]
    stretches = guessed + [_piece(piece) for piece in pieces]
    pasts = [sequence.num_computed for sequence in single]
    lengths = [1] * len(single) + [len(stretch.ids) for stretch in stretches]
    places = list(accumulate(lengths, initial=0))
    sampled, rows = _sampled(single, guessed, pieces, places)
    proposed, proposed_rows = _proposed(guessed, places[len(single) :], len(sampled))
    first_scored = len(sampled) + sum(map(len, proposed_rows))
    scored, scored_rows = _scored(pieces, places[len(decodes)], first_scored)
    sequences = single + [stretch.sequence for stretch in stretches]
    all_pasts = pasts + [stretch.start for stretch in stretches]
    nums_blocks = [
        -(-(past + length) // block_size) for past, length in zip(all_pasts, lengths, strict=True)
    ]
    tables = [
        sequence.block_ids[:num_blocks]
        for sequence, num_blocks in zip(sequences, nums_blocks, strict=True)
    ]
    batch = Batch(
        token_ids=np.concatenate([_last_ids(single), *(stretch.ids for stretch in stretches)]),
        positions=_positions(pasts, stretches),
        num_past=np.array(all_pasts, np.int32),
        begins=np.array(places, np.int32),
        block_ids=np.concatenate(tables),
        block_begins=np.array(list(accumulate(nums_blocks, initial=0)), np.int32),
        rows=np.concatenate([np.array(rows, np.int64), *proposed_rows, *scored_rows]),
        adapters=_adapters(sequences),
    )
    return Plan(batch, sampled, proposed, scored, decodes, pieces)


def _guessed(sequence: ScheduledSequence) -> _Stretch:
    ids = [sequence.generated_ids[-1], *sequence.proposed_ids]
    return _Stretch(sequence, sequence.num_computed, np.array(ids, np.int64))


def _piece(piece: PromptPiece) -> _Stretch:
    ids = piece.sequence.prompt_ids[piece.start : piece.stop]
    return _Stretch(piece.sequence, piece.start, ids)


def _sampled(
    single: list[ScheduledSequence],
    guessed: list[_Stretch],
    pieces: list[PromptPiece],
    places: list[int],
) -> tuple[list[ScheduledSequence], list[int]]:
    """Sequences whose last known token is run, and where in the batch it is."""
    sampled, rows = [], []
    for place, sequence in enumerate(single):
        if sequence.num_computed + 1 == sequence.num_tokens:
            sampled.append(sequence)
            rows.append(place)
    for index, stretch in enumerate(guessed, start=len(single)):
        sampled.append(stretch.sequence)
        rows.append(places[index])
    for index, piece in enumerate(pieces, start=len(single) + len(guessed)):
        if piece.stop == piece.sequence.num_tokens:
            sampled.append(piece.sequence)
            rows.append(places[index + 1] - 1)
    return sampled, rows


def _proposed(
    guessed: list[_Stretch], places: list[int], row: int
) -> tuple[dict[ScheduledSequence, ProposedRows], list[NDArray[np.int64]]]:
    """The logits wanted after guesses, from a row on."""
    proposed, wanted = {}, []
    for stretch, place in zip(guessed, places, strict=False):
        ids = stretch.sequence.proposed_ids
        proposed[stretch.sequence] = ProposedRows(row, ids)
        wanted.append(np.arange(place + 1, place + 1 + len(ids)))
        row += len(ids)
    return proposed, wanted


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


def _last_ids(decodes: list[ScheduledSequence]) -> NDArray[np.int64]:
    ids = [
        sequence.generated_ids[sequence.num_computed - sequence.num_prompt_tokens]
        for sequence in decodes
    ]
    return np.array(ids, np.int64)


def _positions(decoded: list[int], stretches: list[_Stretch]) -> NDArray[np.int64]:
    several = [np.arange(start, start + len(ids)) for _, start, ids in stretches]
    return np.concatenate([np.array(decoded, np.int64), *several])


def _adapters(sequences: list[ScheduledSequence]) -> NDArray[np.int32] | None:
    if all(sequence.adapter is NO_ADAPTER for sequence in sequences):
        return None
    return np.array([sequence.adapter for sequence in sequences], np.int32)
