"""What is kept until something changes, and what is not."""

from dataclasses import dataclass, field

import pytest

from gatehouse.core.remembered import Remembered, RememberedUntilChange


@dataclass
class Source:
    """Something with a version that is read, and counts how often."""

    version: int | None = 1
    reads: list[str] = field(default_factory=list)

    def read(self, key: str) -> str:
        self.reads.append(key)
        return f"{key} at {self.version}"


def test_value_is_read_once_until_something_changes() -> None:
    source = Source()
    kept = RememberedUntilChange[str, str](lambda: source.version)
    assert kept.peek("a") is None
    assert [kept.get("a", lambda: source.read("a")) for _ in range(3)] == ["a at 1"] * 3
    assert kept.peek("a") == "a at 1"
    source.version = 2
    assert kept.peek("a") is None
    assert kept.get("a", lambda: source.read("a")) == "a at 2"
    assert source.reads == ["a", "a"]


def test_without_a_version_nothing_is_kept() -> None:
    source = Source(version=None)
    kept = RememberedUntilChange[str, str](lambda: source.version)
    kept.get("a", lambda: source.read("a"))
    kept.get("a", lambda: source.read("a"))
    assert kept.peek("a") is None
    assert source.reads == ["a", "a"]


def test_change_while_reading_is_seen_by_the_next_who_ask() -> None:
    source = Source()
    kept = RememberedUntilChange[str, str](lambda: source.version)

    def read_slowly() -> str:
        found = source.read("a")
        source.version = 2
        return found

    assert kept.get("a", read_slowly) == "a at 1"
    assert kept.peek("a") is None
    assert kept.get("a", lambda: source.read("a")) == "a at 2"


def test_what_raises_is_not_kept() -> None:
    kept = RememberedUntilChange[str, int](lambda: 1)
    with pytest.raises(ZeroDivisionError):
        kept.get("a", lambda: 1 // 0)
    assert kept.get("a", lambda: 5) == 5


def test_strangers_cannot_fill_the_memory() -> None:
    kept = RememberedUntilChange[int, int](lambda: 1, max_values=10)
    for number in range(1000):
        kept.get(number, lambda: 0)
    assert sum(kept.peek(number) is not None for number in range(1000)) <= 10


def test_value_with_a_version_is_read_again_when_that_changes_and_not_before() -> None:
    source, moment = Source(), [0.0]
    kept = Remembered(lambda: source.read("a"), 2.0, lambda: moment[0], lambda: source.version)
    assert kept.peek() is None
    assert kept.get() == "a at 1"
    moment[0] = 1000.0
    assert kept.get() == kept.peek() == "a at 1"
    source.version = 2
    assert kept.peek() is None
    assert kept.get() == "a at 2"
    assert len(source.reads) == 2


def test_value_without_a_version_is_read_again_when_it_is_old() -> None:
    source, moment = Source(version=None), [0.0]
    kept = Remembered(lambda: source.read("a"), 2.0, lambda: moment[0], lambda: source.version)
    kept.get()
    moment[0] = 2.0
    assert kept.peek() is not None
    moment[0] = 2.1
    assert kept.peek() is None
    kept.get()
    assert len(source.reads) == 2
