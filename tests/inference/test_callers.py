"""Callers over all workers: what each has under way, and how often it is refused."""

from gatehouse.inference.lifecycle.callers import RefusalPace, UnderWay


def test_calls_are_counted_and_leases_of_one_call_are_one() -> None:
    under_way = UnderWay()
    assert under_way.enter("user 1", ("worker", 1), 2)
    assert under_way.enter("user 1", ("worker", 1), 2)
    assert under_way.enter("user 1", ("other worker", 1), 2)
    assert not under_way.enter("user 1", ("worker", 2), 2)
    assert under_way.enter("user 2", ("worker", 2), 2)
    under_way.leave("user 1", ("worker", 1))
    assert not under_way.enter("user 1", ("worker", 2), 2)
    under_way.leave("user 1", ("worker", 1))
    assert under_way.enter("user 1", ("worker", 2), 2)


def test_nothing_is_kept_of_callers_without_calls() -> None:
    under_way = UnderWay()
    assert not under_way.enter("user 1", 1, 0)
    assert under_way.enter("user 1", 1, 1)
    under_way.leave("user 1", 1)
    assert len(under_way) == 0


def test_refusals_of_one_caller_about_one_model_are_a_second_apart() -> None:
    pace = RefusalPace()
    assert pace.pause("a", "model", 100.0) == 0.0
    assert pace.pause("b", "model", 100.0) == 0.0
    assert pace.pause("a", "other", 100.0) == 0.0
    assert pace.pause("a", "model", 100.25) == 0.75
    assert pace.pause("a", "model", 100.25) == 1.75
    assert pace.pause("a", "model", 110.0) == 0.0


def test_nobody_waits_longer_than_a_minute_to_be_refused() -> None:
    pace = RefusalPace()
    assert max(pace.pause("a", "model", 0.0) for _ in range(500)) == 60.0
