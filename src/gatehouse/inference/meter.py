"""What one call took: tokens and time, counted where the tokens pass, whatever route it came by."""

import time
from dataclasses import dataclass, field

from gatehouse.engines.base import SequenceOutput


@dataclass(slots=True)
class Meter:
    """Counts over all sequences of one call.

    Attributes:
        num_prompt_tokens: Of all prompts that were run.
        num_generated_tokens: Of all sequences so far.
        queue_seconds: The longest that one of its sequences waited for its first step.
        started: Seconds of the monotonic clock.
        first_token: When the first token came; None before that.
    """

    num_prompt_tokens: int = 0
    num_generated_tokens: int = 0
    queue_seconds: float = 0.0
    started: float = field(default_factory=time.perf_counter)
    first_token: float | None = None

    def record(self, output: SequenceOutput) -> None:
        if output.start is not None:
            self.num_prompt_tokens += output.start.num_prompt_tokens
            self.queue_seconds = max(self.queue_seconds, output.start.waited_seconds)
        self.num_generated_tokens += len(output.tokens)
        if output.tokens and self.first_token is None:
            self.first_token = time.perf_counter()

    @property
    def total_seconds(self) -> float:
        return time.perf_counter() - self.started
