"""The rounds of one shape, engine against engine."""

from collections.abc import Sequence
from statistics import median

from benchmarks.engine import workloads
from benchmarks.engine.engines import EngineName
from benchmarks.engine.rounds import Results, at_once
from benchmarks.engine.workloads import Answer, Measure


class Comparison:
    """Medians of an engine, and of its ratios to others.

    Attributes:
        names: The engines that were loaded.
        many: The part with the most requests in flight.
    """

    def __init__(self, results: Results) -> None:
        self.results = results
        self.names = list(results.loaded)
        self.many = at_once(results.plan.concurrencies[-1])

    def has(self, part: str) -> bool:
        """Whether anybody was asked that."""
        return any(self.results.of(part, name) for name in self.names)

    def middle(self, part: str, name: EngineName, measure: Measure) -> float | None:
        rates = self.results.rates(part, name, measure)
        return median(rates) if rates else None

    def over(
        self, part: str, name: EngineName, others: Sequence[EngineName], measure: Measure
    ) -> float | None:
        """The median of the ratios to the best of `others` in the same round; more is better."""
        theirs = [self.results.rates(part, other, measure) for other in others if other != name]
        theirs = [rates for rates in theirs if rates]
        own = self.results.rates(part, name, measure)
        if not theirs or not own:
            return None
        ratios: list[float] = [mine / max(best) for mine, *best in zip(own, *theirs, strict=False)]
        return median(ratios)

    def prefix_ratio(self, name: EngineName) -> float | None:
        """What a prefix that requests share is worth, in first tokens per second."""
        own = self.middle("prefix, own", name, workloads.first_token_throughput)
        shared = self.middle("prefix, shared", name, workloads.first_token_throughput)
        return None if own is None or shared is None else shared / own

    def same_first_tokens(self, name: EngineName) -> float | None:
        """How many requests begin as with the first engine: whether they run the same model."""
        own = self.results.of(self.many, name)
        theirs = self.results.of(self.many, self.names[0])
        pairs = list(zip(own, theirs, strict=False))
        if not pairs:
            return None
        return median(workloads.same_first_tokens(one, two) for one, two in pairs)

    def answers(self, name: EngineName) -> list[Answer]:
        """All that an engine gave."""
        return [
            answer
            for (_, other), answers in self.results.answers.items()
            if other == name
            for answer in answers
        ]

    def most_anonymous_bytes(self, name: EngineName) -> int:
        loaded = self.results.loaded[name].anonymous_bytes
        return max((answer.anonymous_bytes for answer in self.answers(name)), default=loaded)

    def peak_bytes(self, name: EngineName) -> int:
        loaded = self.results.loaded[name].peak_bytes
        return max((answer.peak_bytes for answer in self.answers(name)), default=loaded)
