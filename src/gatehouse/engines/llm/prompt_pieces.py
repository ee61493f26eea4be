"""How prompts are cut into pieces that share a step."""

from dataclasses import dataclass

from gatehouse.engines.llm.block_manager import BlockManager
from gatehouse.engines.llm.scheduled_sequence import ScheduledSequence

MIN_PIECE = 2


@dataclass(frozen=True, slots=True)
class PromptPiece:
    """The tokens of a prompt from `start` to `stop`, which one step runs."""

    sequence: ScheduledSequence
    start: int
    stop: int


def piece_length(num_left: int, num_tokens: int) -> int:
    """How many of the last `num_left` tokens of a prompt to run, `num_tokens` at most.

    Neither a piece nor what it leaves is of one token, which would be decoded and not prefilled:
    the last bits of its logits would depend on the cut. Only a prompt of one token is run as one.
    """
    if num_left <= num_tokens:
        return num_left
    if num_left - num_tokens == 1:
        num_tokens -= 1
    return num_tokens if num_tokens >= MIN_PIECE else 0


class PieceCutter:
    """Cuts the pieces of one step.

    Attributes:
        pieces: Those cut so far.
    """

    def __init__(self, blocks: BlockManager, num_tokens: int, num_scored: int) -> None:
        """Take the room of the step: prompt tokens, and those with logits for each."""
        self.pieces: list[PromptPiece] = []
        self._blocks = blocks
        self._num_tokens = num_tokens
        self._num_scored = num_scored
        self._in_flight: set[bytes] = set()

    @property
    def has_room(self) -> bool:
        return self._num_tokens >= MIN_PIECE

    def is_being_computed(self, sequence: ScheduledSequence) -> bool:
        """Whether a piece of another sequence is about to compute what this one needs next.

        It costs a step to wait for that, and a block of tokens or more not to.
        """
        if not self._in_flight:
            return False
        missing = self._blocks.next_missing(sequence)
        return missing is not None and missing.digest in self._in_flight

    def cut(self, sequence: ScheduledSequence, is_ready: bool) -> None:
        """Add a piece of a prefilling sequence, if one fits.

        Args:
            sequence: Its `num_computed` rises by what others have computed of its prompt.
            is_ready: Otherwise it gets no piece after which a token would be chosen.
        """
        self._blocks.skip_cached(sequence)
        start = sequence.num_computed
        num_left = sequence.num_prompt_tokens - start
        num_tokens = self._num_tokens
        if sequence.wants_prompt_logits:
            num_tokens = min(num_tokens, self._num_scored)
        if not is_ready and not sequence.generated_ids:
            num_tokens = min(num_tokens, num_left - MIN_PIECE)
        length = piece_length(num_left, num_tokens)
        if not length:
            return
        self.pieces.append(PromptPiece(sequence, start, start + length))
        self._num_tokens -= length
        if sequence.wants_prompt_logits:
            self._num_scored -= length
        touched = self._blocks.prompt_blocks_within(sequence, start, start + length)
        self._in_flight.update(content.digest for content in touched)
