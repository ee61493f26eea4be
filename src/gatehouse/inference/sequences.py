"""One generated sequence, whole: put together from the steps that an engine gave."""

from dataclasses import dataclass, field

from gatehouse.engines.base import Finish, GeneratedToken, SequenceOutput, Start


@dataclass(slots=True)
class GeneratedSequence:
    """What came so far. `start` and `finish` are there once the first and last step came."""

    tokens: list[GeneratedToken] = field(default_factory=list)
    start: Start | None = None
    finish: Finish | None = None

    def add(self, output: SequenceOutput) -> None:
        self.tokens.extend(output.tokens)
        self.start = output.start or self.start
        self.finish = output.finish or self.finish

    @property
    def text(self) -> str:
        return "".join(generated.piece for generated in self.tokens)

    @property
    def num_prompt_tokens(self) -> int:
        return self.start.num_prompt_tokens if self.start else 0

    @property
    def mean_logprob(self) -> float:
        """Natural log; what `best_of` compares."""
        scores = [generated.token.logprob or 0.0 for generated in self.tokens]
        return sum(scores) / max(1, len(scores))
