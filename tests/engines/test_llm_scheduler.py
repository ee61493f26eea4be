import time
from itertools import count

import numpy as np
import pytest
from greedy_loop import GreedyLoop

from gatehouse.engines.llm.plan import Plan
from gatehouse.engines.llm.prompt_pieces import piece_length
from gatehouse.engines.llm.scheduled_sequence import ScheduledSequence, SequenceState
from gatehouse.engines.llm.scheduler import SchedulerLimits, SequenceTooLong

NARROW = SchedulerLimits(
    max_sequences=4, max_tokens_per_step=8, max_scored_per_step=5, patience=4, stream_weight=1
)


def ids(length: int, seed: int = 0) -> list[int]:
    tokens: list[int] = np.random.default_rng(seed).integers(0, 61, length).tolist()
    return tokens


def step(loop: GreedyLoop) -> Plan:
    plan = loop.step()
    assert plan is not None
    return plan


def run_until_preempted(loop: GreedyLoop, sequence: ScheduledSequence) -> None:
    for _ in range(200):
        if sequence.state is SequenceState.PREEMPTED:
            return
        loop.step()
    pytest.fail("it was not preempted")


def num_run_for(loop: GreedyLoop, prompt_ids: list[int], salt: bytes = b"") -> int:
    """How many tokens were run for a request of one new token."""
    before = loop.runner.num_tokens_run
    loop.add(prompt_ids, 1, salt=salt)
    loop.run()
    return loop.runner.num_tokens_run - before


# Pieces of prompts


def test_no_piece_has_one_token_and_none_is_left() -> None:
    assert piece_length(1, 5) == 1
    for num_left in range(2, 20):
        for num_tokens in range(20):
            length = piece_length(num_left, num_tokens)
            assert length <= min(num_left, num_tokens)
            assert length != 1
            assert num_left - length != 1
            # Only three tokens cannot be begun with two.
            assert length or num_tokens < 2 or (num_left, num_tokens) == (3, 2)


@pytest.mark.parametrize("length", [*range(1, 30), 62])
def test_a_prompt_of_any_length_gives_its_tokens(length: int) -> None:
    loop = GreedyLoop(limits=NARROW)
    loop.add(ids(length), 6)
    loop.run()


def test_answers_do_not_depend_on_what_else_runs() -> None:
    loop = GreedyLoop(limits=SchedulerLimits(8, 24, stream_weight=1))
    for seed in range(20):
        loop.add(ids(1 + seed * 2, seed), 1 + seed % 9)
    loop.run()
    assert len(loop.finished) == 20


def test_a_long_prompt_holds_up_no_stream() -> None:
    loop = GreedyLoop(limits=NARROW)
    streams = [loop.add(ids(3, seed), 60) for seed in range(3)]
    while len(streams[-1].generated_ids) < 1:
        loop.step()
    long = loop.add(ids(100, 9), 2)
    num_steps = 0
    while not long.generated_ids:
        plan = loop.step()
        assert plan is not None
        assert set(streams) <= set(plan.sampled)
        num_steps += 1
    assert num_steps == 20  # five tokens beside three streams
    loop.run()


# Who is admitted


def test_a_prompt_alone_is_one_step_and_shorter_ones_the_more_streams_wait() -> None:
    loop = GreedyLoop(num_blocks=200, block_size=32)
    loop.add(ids(512), 30)
    assert step(loop).sampled
    lengths = []
    for seed in range(3):
        loop.add(ids(1000, seed + 1), 30)
        lengths.append([piece.stop - piece.start for piece in step(loop).pieces])
        while step(loop).pieces:
            pass
    assert lengths == [[501], [490], [479]]


def test_only_so_many_run_at_once() -> None:
    loop = GreedyLoop(limits=NARROW)
    for seed in range(7):
        loop.add([seed], 20)
    loop.step()
    assert (loop.scheduler.num_running, loop.scheduler.num_waiting) == (4, 3)
    loop.run()


def test_priority_goes_before_arrival() -> None:
    loop = GreedyLoop(limits=SchedulerLimits(max_sequences=1))
    priorities = [5, 0, -3, 5, 0]
    sequences = [loop.add(ids(4, place), 2, priority=p) for place, p in enumerate(priorities)]
    loop.run()
    assert loop.finished == [sequences[place] for place in (2, 1, 4, 0, 3)]


def test_a_better_prompt_overtakes_a_long_one_that_is_being_run() -> None:
    loop = GreedyLoop(limits=NARROW)
    long = loop.add(ids(100), 1, priority=1)
    loop.step()
    short = loop.add(ids(8, 1), 1)
    loop.run()
    assert loop.finished == [short, long]


def test_a_sequence_waits_until_its_prompt_has_room() -> None:
    loop = GreedyLoop(num_blocks=10)
    first = loop.add(ids(24), 6)
    second = loop.add(ids(20, 1), 2)
    small = loop.add(ids(2, 2), 1)
    loop.step()
    # The small one would fit: but then the second might never.
    states = [sequence.state for sequence in (first, second, small)]
    assert states == [SequenceState.DECODING, SequenceState.WAITING, SequenceState.WAITING]
    loop.run()
    assert loop.scheduler.num_preemptions == 0


def test_what_can_never_fit_is_refused() -> None:
    loop = GreedyLoop(num_blocks=10)
    with pytest.raises(SequenceTooLong, match=r"41 tokens.*40 tokens"):
        loop.add(ids(31), 10)
    loop.add(ids(30), 10)
    loop.run()


def test_the_worst_waiting_is_served_however_many_better_ones_come() -> None:
    loop = GreedyLoop(limits=NARROW)
    worst = loop.add(ids(30), 5, priority=1000)
    for seed in range(200):
        loop.add(ids(7, seed), 2)
        loop.add(ids(5, seed + 500), 2)
        loop.step()
        if worst in loop.finished:
            break
    # Six pieces of its prompt, each after four steps at most that served others.
    assert seed < 6 * 5 + 10
    assert loop.scheduler.num_waiting > 10


def test_the_turn_of_the_eldest_makes_no_more_run_at_once() -> None:
    loop = GreedyLoop(limits=SchedulerLimits(max_sequences=4, patience=2))
    for seed in range(6):
        loop.add(ids(2, seed), 8)
    worst = loop.add(ids(2), 8, priority=9)
    for seed in range(200):
        loop.add(ids(2, seed), 8)
        loop.step()  # which counts who runs
    assert worst in loop.finished


def test_a_large_one_is_served_though_small_ones_would_always_fit() -> None:
    loop = GreedyLoop(num_blocks=12, limits=NARROW)
    for seed in range(8):
        loop.add(ids(3, seed), 8)
        loop.step()
    large = loop.add(ids(40), 8, priority=9)
    for seed in count(100):
        loop.add(ids(3, seed), 8)
        loop.step()
        if large in loop.finished:
            break
        assert seed < 400


def test_a_block_is_spared_for_each_that_runs() -> None:
    loop = GreedyLoop(num_blocks=9)
    for seed in range(3):
        loop.add(ids(6, seed), 2)
    loop.step()
    # Two blocks each: the third leaves three, and two are to be spared.
    assert loop.scheduler.num_running == 3
    loop.run()
    smaller = GreedyLoop(num_blocks=7)
    for seed in range(3):
        smaller.add(ids(6, seed), 2)
    smaller.step()
    # It would leave one.
    assert smaller.scheduler.num_running == 2
    smaller.run()


# Preemption


def test_the_youngest_of_the_worst_priority_gives_up_its_blocks() -> None:
    loop = GreedyLoop(num_blocks=19)
    eldest = loop.add(ids(8), 16, priority=9)
    others = [loop.add(ids(8, seed + 1), 16, priority=p) for seed, p in enumerate((0, 1, 1, 0))]
    run_until_preempted(loop, others[2])
    assert eldest.state is SequenceState.DECODING
    assert loop.scheduler.num_running == 4
    assert loop.scheduler.num_preemptions == 1
    loop.run()
    assert loop.finished[-1] is others[2]


def test_the_eldest_is_never_preempted() -> None:
    loop = GreedyLoop(num_blocks=16, limits=NARROW)
    eldest = loop.add(ids(8), 40, priority=9)
    loop.step()
    for seed in range(60):
        if len(loop.unfinished) < 6:
            loop.add(ids(6, seed), 12)
        loop.step()
        assert eldest.state in (SequenceState.DECODING, SequenceState.FINISHED)
    assert eldest in loop.finished
    assert loop.scheduler.num_preemptions > 0
    loop.run()


def test_generated_tokens_are_replayed_one_by_one() -> None:
    loop = GreedyLoop(num_blocks=8, reuse_prefixes=False)
    first, second = loop.add(ids(8), 16), loop.add(ids(8, 1), 16)
    run_until_preempted(loop, second)
    before = list(second.generated_ids)
    assert len(before) > 4
    num_replayed = 0
    while second.generated_ids == before:
        plan = loop.step()
        assert plan is not None
        assert all(piece.stop <= 8 for piece in plan.pieces)
        num_replayed += second in plan.decodes and second not in plan.sampled
    assert num_replayed == len(before) - 1
    assert first in loop.finished
    loop.run()


def test_a_preempted_prompt_is_found_again() -> None:
    loop = GreedyLoop(num_blocks=15)
    first, second = loop.add(ids(8), 40), loop.add(ids(26, 1), 16)
    run_until_preempted(loop, second)
    loop.cancel(first)
    loop.step()
    assert second.num_cached == 24
    loop.run()


# Sequences that are not ready


def test_a_prompt_is_run_up_to_its_end_while_a_grammar_is_read() -> None:
    loop = GreedyLoop(limits=NARROW)
    sequence, other = loop.add(ids(30), 3), loop.add(ids(4, 1), 3)
    for _ in range(10):
        loop.step(not_ready={sequence})
    assert (sequence.num_computed, sequence.generated_ids) == (28, [])
    assert other in loop.finished
    loop.run()


def test_a_stream_is_passed_over_while_it_is_not_ready() -> None:
    loop = GreedyLoop()
    sequence, other = loop.add(ids(4), 9), loop.add(ids(4, 1), 9)
    loop.step()
    for _ in range(5):
        loop.step(not_ready=[sequence])
    assert (len(sequence.generated_ids), len(other.generated_ids)) == (1, 6)
    assert loop.plan(not_ready=[sequence, other]) is None
    loop.run()


def test_replaying_needs_no_grammar() -> None:
    loop = GreedyLoop(num_blocks=8)
    first, second = loop.add(ids(8), 16), loop.add(ids(8, 1), 16)
    run_until_preempted(loop, second)
    loop.cancel(first)
    for _ in range(30):
        loop.step(not_ready={second})
    assert second.num_computed == second.num_tokens - 1
    loop.run()


def test_one_that_is_not_ready_does_not_take_the_turn_of_the_eldest() -> None:
    loop = GreedyLoop(limits=NARROW)
    unready = loop.add(ids(6), 2, priority=10)
    worst = loop.add(ids(30, 1), 2, priority=10)
    for seed in range(100):
        loop.add(ids(7, seed), 2)
        loop.add(ids(5, seed + 500), 2)
        loop.step(not_ready={unready})
        if worst in loop.finished:
            break
    assert worst in loop.finished


# Prefixes


def test_a_common_prompt_is_run_once() -> None:
    loop = GreedyLoop()
    assert num_run_for(loop, ids(30)) == 30
    assert num_run_for(loop, ids(30)) == 2
    assert num_run_for(loop, ids(28) + ids(5, 1)) == 5
    assert num_run_for(loop, ids(15) + ids(5, 1)) == 8
    assert num_run_for(loop, ids(3)) == 3


@pytest.mark.parametrize(("length", "num_run"), [(28, 4), (29, 5), (30, 2), (31, 3), (4, 4)])
def test_two_tokens_of_a_known_prompt_are_run_at_least(length: int, num_run: int) -> None:
    loop = GreedyLoop()
    assert num_run_for(loop, ids(length)) == length
    assert num_run_for(loop, ids(length)) == num_run


def test_sequences_of_different_salt_share_nothing() -> None:
    loop = GreedyLoop()
    assert num_run_for(loop, ids(30), b"mine") == 30
    assert num_run_for(loop, ids(30), b"yours") == 30
    assert num_run_for(loop, ids(30)) == 30
    assert num_run_for(loop, ids(30), b"mine") == 2


def test_generated_tokens_are_not_found_as_a_prompt() -> None:
    loop = GreedyLoop()
    sequence = loop.add(ids(10), 20)
    loop.run()
    assert num_run_for(loop, ids(10) + sequence.generated_ids) == 22


def test_prefixes_are_not_reused_if_not_wanted() -> None:
    loop = GreedyLoop(reuse_prefixes=False)
    assert num_run_for(loop, ids(30)) == num_run_for(loop, ids(30)) == 30


def test_a_prefix_is_forgotten_when_the_room_is_needed() -> None:
    loop = GreedyLoop(num_blocks=10)
    assert num_run_for(loop, ids(30)) == 30
    assert num_run_for(loop, ids(38, 1)) == 38
    assert num_run_for(loop, ids(30)) == 30


def test_requests_of_one_moment_run_their_common_prompt_once() -> None:
    loop = GreedyLoop(num_blocks=100, limits=SchedulerLimits(8, 20, stream_weight=1))
    for seed in range(8):
        loop.add(ids(50) + ids(4, seed + 1), 1)
    loop.run()
    # 48 of 50 lie in full blocks, the first one runs 54 and the others 6.
    assert loop.runner.num_tokens_run == 54 + 7 * 6


def test_a_common_prompt_is_kept_once_in_memory() -> None:
    loop = GreedyLoop(num_blocks=30)
    for seed in range(4):
        loop.add(ids(80) + ids(3, seed + 1), 4)
    for _ in range(3):
        loop.step()
    assert loop.scheduler.num_running == 4
    assert loop.blocks.num_available >= 30 - 20 - 2 * 4
    loop.run()


def test_a_prompt_takes_over_what_another_one_computed_meanwhile() -> None:
    loop = GreedyLoop(limits=NARROW)
    slow = loop.add(ids(50), 1, priority=1)
    loop.step()
    quick = loop.add(ids(50), 1)
    loop.run()
    assert loop.finished == [quick, slow]
    # The quick one begins after eight tokens of the slow one, which then has two left to run.
    assert loop.runner.num_tokens_run == 50 + 2


# Prompt logits


@pytest.mark.parametrize("length", [1, 2, 3, 7, 30])
def test_a_scored_prompt_gives_a_row_for_each_token(length: int) -> None:
    loop = GreedyLoop(limits=NARROW)
    loop.add(ids(length), 3)
    loop.run()
    scored = loop.add(ids(length), 3, wants_prompt_logits=True)
    other = loop.add(ids(9, 1), 3, wants_prompt_logits=True)
    loop.run()
    assert len(loop.scored.get(scored, [])) == length - 1
    assert len(loop.scored[other]) == 8


def test_a_prompt_can_be_scored_without_a_new_token() -> None:
    loop = GreedyLoop()
    scored = loop.add(ids(12), 0, wants_prompt_logits=True)
    loop.run()
    assert len(loop.scored[scored]) == 11


def test_a_step_has_a_bounded_number_of_scored_rows() -> None:
    loop = GreedyLoop(limits=NARROW)
    for seed in range(3):
        loop.add(ids(20, seed), 1, wants_prompt_logits=True)
    while (plan := loop.step()) is not None:
        assert sum(rows.num_rows for rows in plan.scored) <= 5
    assert len(loop.finished) == 3


def test_a_scored_prompt_is_scored_once_though_it_is_preempted() -> None:
    loop = GreedyLoop(num_blocks=8)
    loop.add(ids(8), 16)
    second = loop.add(ids(8, 1), 16, wants_prompt_logits=True)
    run_until_preempted(loop, second)
    loop.run()
    assert len(loop.scored[second]) == 7


# The life of a sequence


def test_a_sequence_can_be_finished_in_every_state() -> None:
    loop = GreedyLoop(num_blocks=12, limits=NARROW)
    seen: set[SequenceState] = set()
    for moment in range(40):
        sequences = [loop.add(ids(8, place), 16) for place in range(5)]
        for _ in range(moment):
            loop.step()
        for sequence in reversed(sequences):
            seen.add(sequence.state)
            loop.cancel(sequence)
            loop.cancel(sequence)
            assert sequence.state is SequenceState.FINISHED
            loop.scheduler.audit()
        assert loop.blocks.num_available == 12
        assert loop.step() is None
    assert seen == set(SequenceState)


def test_a_sequence_may_be_finished_while_its_step_runs() -> None:
    loop = GreedyLoop()
    decoding = loop.add(ids(8), 9)
    loop.step()
    prefilling, stays = loop.add(ids(9, 1), 9), loop.add(ids(9, 2), 9)
    loop.step(leaving=[decoding, prefilling])
    assert (stays.num_computed, prefilling.num_computed, decoding.num_computed) == (9, 0, 0)
    loop.run()


def test_a_plan_that_was_not_run_is_made_again() -> None:
    loop = GreedyLoop(limits=NARROW)
    for seed in range(6):
        loop.add(ids(7, seed), 9)
    while loop.unfinished:
        loop.plan()
        loop.step()


def test_a_sequence_stands_still_until_it_gets_its_token() -> None:
    loop = GreedyLoop()
    sequence = loop.add(ids(8), 9)
    plan = loop.plan()
    assert plan is not None
    assert plan.sampled == [sequence]
    logits = loop.runner.run(plan.batch)
    loop.scheduler.complete(plan)
    assert loop.plan() is None
    loop.scheduler.append(sequence, int(logits.best[0]))
    loop.run()


@pytest.mark.parametrize(("num_tokens", "num_scored"), [(6, 8), (8, 2)])
def test_a_step_without_room_for_a_prompt_is_refused(num_tokens: int, num_scored: int) -> None:
    with pytest.raises(ValueError, match="room"):
        SchedulerLimits(4, num_tokens, num_scored, stream_weight=1)


def test_a_step_of_thirty_two_streams_costs_little() -> None:
    loop = GreedyLoop(num_blocks=32 * 40, block_size=32)
    scheduler = loop.scheduler
    for seed in range(32):
        scheduler.add(ScheduledSequence(np.array(ids(500, seed), np.int64), 700))
    seconds: list[float] = []
    while len(seconds) < 300:
        started = time.process_time()
        plan = scheduler.plan()
        assert plan is not None
        assert plan.pieces or len(plan.sampled) == 32
        scheduler.complete(plan)
        for sequence in plan.sampled:
            scheduler.append(sequence, 7)
        if not plan.pieces:
            seconds.append(time.process_time() - started)
    assert np.median(seconds) < 0.0005
