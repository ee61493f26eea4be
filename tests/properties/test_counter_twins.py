"""Counts in the database do what counts in memory do, and neither ever passes a limit."""

import tempfile
from pathlib import Path

from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gatehouse.db.engine import Database
from gatehouse.identity.counters import Change, Count, Counters, MemoryCounters, Want, WindowFull
from gatehouse.identity.database_counters import DatabaseCounters

_KEYS = strategies.sampled_from(["a", "b", "c"])
_AMOUNTS = strategies.integers(1, 12)
_LIMIT = 20
_WINDOW = {"a": 10, "b": 25, "c": 3}


class TwoCounters(RuleBasedStateMachine):
    """The same deeds to both."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "counters.db"
        self._database = Database(f"sqlite:///{path}", is_durable=False)
        self.memory = MemoryCounters()
        self.stored = DatabaseCounters(self._database)
        self.now = 1_000
        self.ends: list[tuple[str, int]] = []

    def teardown(self) -> None:
        self._database.dispose()
        self._folder.cleanup()

    @rule(seconds=strategies.integers(1, 12))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(wanted=strategies.dictionaries(_KEYS, _AMOUNTS, min_size=1))
    def take(self, wanted: dict[str, int]) -> None:
        wants = [Want(key, wanted[key], _LIMIT, _WINDOW[key]) for key in sorted(wanted)]
        outcome, other = self._outcome(self.memory, wants), self._outcome(self.stored, wants)
        if isinstance(outcome, WindowFull):
            assert isinstance(other, WindowFull)
            assert (other.want, other.count) == (outcome.want, outcome.count)
        else:
            assert other == outcome
        if not isinstance(outcome, WindowFull):
            self.ends += [(w.key, c.ends_at) for w, c in zip(wants, outcome, strict=True)]

    @rule(data=strategies.data(), amount=strategies.integers(-15, 0))
    def give_back(self, data: strategies.DataObject, amount: int) -> None:
        if self.ends:
            key, ends_at = data.draw(strategies.sampled_from(self.ends))
            for counters in (self.memory, self.stored):
                counters.change([Change(key, ends_at, amount)])

    @rule(key=_KEYS)
    def clear(self, key: str) -> None:
        for counters in (self.memory, self.stored):
            counters.clear(key)

    @invariant()
    def they_agree_and_keep_the_limit(self) -> None:
        for key, window_seconds in _WINDOW.items():
            count = self.memory.read(key, window_seconds, self.now)
            assert self.stored.read(key, window_seconds, self.now) == count
            assert 0 <= count.used <= _LIMIT
            assert self.now < count.ends_at <= self.now + window_seconds

    def _outcome(self, counters: Counters, wants: list[Want]) -> tuple[Count, ...] | WindowFull:
        try:
            return counters.take(wants, self.now)
        except WindowFull as full:
            return full


TestTwoCounters = TwoCounters.TestCase
TestTwoCounters.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
