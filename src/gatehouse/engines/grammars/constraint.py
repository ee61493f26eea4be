"""One sequence's grammar while it runs: which tokens may come next.

The work is done on threads of its own, between two steps, so that a costly grammar holds up its own
sequence and no other.
"""

import time
from concurrent.futures import Executor, Future
from concurrent.futures import TimeoutError as NotReady
from typing import Final

from llguidance import LLMatcher

# The limits of llguidance end a step after 0.1 seconds of CPU time; this is for a busy machine.
MAX_SECONDS: Final = 20.0


class ConstraintBroken(ArithmeticError):
    """The grammar ran into its limits, or allows nothing more; the sequence cannot go on."""


class Constraint:
    """Follows one sequence; used by one thread, besides the executor's.

    Args:
        matcher: At the beginning of its text, used by nobody else.
        executor: Where masks are computed.
    """

    def __init__(self, matcher: LLMatcher, executor: Executor) -> None:
        self._matcher = matcher
        self._executor = executor
        self._mask: Future[bytearray] = executor.submit(self._compute, None)
        self._since = time.monotonic()

    def accept(self, token_id: int) -> None:
        """The sequence goes on with this token; begin to compute what may follow."""
        self._mask = self._executor.submit(self._compute, token_id)
        self._since = time.monotonic()

    def is_ready(self, wait_seconds: float = 0.0) -> bool:
        """Whether `allowed` would answer at once. An overdue one is ready too: ready to raise."""
        try:
            self._mask.exception(wait_seconds)
        except NotReady:
            return self._is_overdue()
        return True

    def allowed(self) -> bytearray:
        """One byte for each token of the vocabulary, not 0 for those that may come next.

        Raises:
            ConstraintBroken: The grammar gave up.
        """
        if not self._mask.done() and self._is_overdue():
            raise ConstraintBroken("the grammar took too long")
        return self._mask.result()

    def is_complete(self) -> bool:
        """Whether nothing but the end may come; of an answer that is ready."""
        return bool(self._matcher.is_stopped())

    def _is_overdue(self) -> bool:
        return time.monotonic() - self._since > MAX_SECONDS

    def _compute(self, token_id: int | None) -> bytearray:
        if token_id is not None and not self._matcher.consume_token(token_id):
            raise ConstraintBroken("the grammar became too complex")
        mask = bytearray(self._matcher.compute_logit_bias())
        if self._matcher.is_error():
            raise ConstraintBroken("the grammar became too complex")
        return mask
