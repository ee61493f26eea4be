"""How likely the tokens of one prompt were, gathered as its pieces are run."""

from gatehouse.engines.llm.plan import ScoredRows
from gatehouse.engines.llm.runner import Logits
from gatehouse.engines.llm.sampler import Choice, score_prompt


class PromptScores:
    """Of a sequence that wants logits of its prompt; the first token has none.

    Args:
        prompt_ids: The prompt.
        num_top: How many of the likeliest tokens to tell at each place.
    """

    def __init__(self, prompt_ids: list[int], num_top: int) -> None:
        self._prompt_ids = prompt_ids
        self._num_top = num_top
        self._scores: list[Choice] = []

    def add(self, logits: Logits, scored: ScoredRows) -> None:
        """Take in what a step gave. Pieces come in order.

        Raises:
            NumbersNotFinite: The sequence cannot go on.
        """
        rows = range(scored.first_row, scored.first_row + scored.num_rows)
        first = scored.first_position + 1
        next_ids = self._prompt_ids[first : first + scored.num_rows]
        self._scores += score_prompt(logits, rows, next_ids, self._num_top)

    def logprobs(self) -> list[float | None]:
        """One for each prompt token."""
        return [None, *(score.logprob for score in self._scores)]

    def tops(self) -> list[tuple[tuple[int, float], ...]]:
        """The likeliest tokens at each place of the prompt, best first."""
        return [(), *(score.top for score in self._scores)]
