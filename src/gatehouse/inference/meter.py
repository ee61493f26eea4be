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
        queue_seconds: The longest that one of its sequences waited: for the model, and then for its
            first step.
        started: Seconds of the monotonic clock.
        submitted: When the first of its sequences was handed on; None before that.
        first_token: When the first token came; None before that.
        is_cached: Whether a kept answer served the call.
        device: What the model runs on: `cpu` or `gpu`.
    """

    num_prompt_tokens: int = 0
    num_generated_tokens: int = 0
    queue_seconds: float = 0.0
    started: float = field(default_factory=time.perf_counter)
    submitted: float | None = None
    first_token: float | None = None
    is_cached: bool = False
    device: str = "cpu"

    def submit(self) -> float:
        """Note that a sequence is handed on; returns when that was."""
        now = time.perf_counter()
        if self.submitted is None:
            self.submitted = now
        return now

    def hold(self, device: str, submitted: float) -> float:
        """Note that the model of a sequence is ready; returns the seconds that it took."""
        waited = time.perf_counter() - submitted
        self.device = device
        self.queue_seconds = max(self.queue_seconds, waited)
        return waited

    def record(self, output: SequenceOutput, held_after_seconds: float = 0.0) -> None:
        """Count one step of a sequence that waited so long for its model."""
        if output.start is not None:
            self.num_prompt_tokens += output.start.num_prompt_tokens
            waited = held_after_seconds + output.start.waited_seconds
            self.queue_seconds = max(self.queue_seconds, waited)
        self.num_generated_tokens += len(output.tokens)
        if output.tokens and self.first_token is None:
            self.first_token = time.perf_counter()

    @property
    def total_seconds(self) -> float:
        return time.perf_counter() - self.started

    @property
    def validation_seconds(self) -> float:
        """From the call to its first sequence: reading the body, the plan, the model's files."""
        return (self.submitted or self.started) - self.started
