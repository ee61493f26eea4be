"""Who gets which host, with hosts that are only numbers: no process is started here."""

from dataclasses import dataclass, field

import anyio
import msgspec
import pytest

from gatehouse.engines.base import EngineOptions, ModelDescription, RunnerName, WeightFormat
from gatehouse.engines.messages import ForkHost, HostFailed, HostReady
from gatehouse.inference.lifecycle.host_processes import HostEnded
from gatehouse.inference.lifecycle.leases import Leases
from gatehouse.inference.lifecycle.messages import Declined, DeclineReason, ModelSource
from gatehouse.inference.lifecycle.placement import Placement, load_limit_seconds, needed_bytes

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
DESCRIPTION = ModelDescription("echo", "None", 8, False, (), "none", "cpu", 0)


@dataclass
class FakeHosts:
    started: list[ForkHost] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)

    def start(self, order: ForkHost) -> None:
        self.started.append(order)

    def end(self, host_id: int) -> None:
        self.ended.append(host_id)

    def startup_seconds(self) -> float:
        return 0.0


@dataclass
class Setting:
    leases: Leases
    hosts: FakeHosts
    now: float = 0.0

    def become_ready(self, host_id: int) -> None:
        self.leases.on_ready(host_id, HostReady(DESCRIPTION, 0))

    async def load(self, source: ModelSource) -> Placement:
        """Acquire a model whose host is ready at once."""
        answers: list[Placement | Declined] = []

        async def acquire() -> None:
            answers.append(await self.leases.acquire(source))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(acquire)
            await anyio.wait_all_tasks_blocked()
            if not answers:
                self.become_ready(len(self.hosts.started))
        (answer,) = answers
        assert isinstance(answer, Placement)
        return answer


@pytest.fixture
async def setting() -> Setting:
    budget = needed_bytes(model("any")) * 2 + MIB
    leases = Leases("/nowhere/supervisor.sock", budget, 60.0, 2)
    setting = Setting(leases, FakeHosts())
    leases.clock = lambda: setting.now
    leases.use(setting.hosts)
    return setting


def model(name: str, weight_bytes: int = 100 * MIB) -> ModelSource:
    return ModelSource(name, name, f"/models/{name}", weight_bytes)


async def test_many_wishes_load_a_model_once(setting: Setting) -> None:
    answers: list[Placement | Declined] = []

    async def acquire() -> None:
        answers.append(await setting.leases.acquire(model("a")))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(acquire)
        await anyio.wait_all_tasks_blocked()
        assert [order.folder for order in setting.hosts.started] == ["/models/a"]
        assert answers == []
        setting.become_ready(1)
    assert len({id(answer) for answer in answers}) == 1
    assert isinstance(answers[0], Placement)
    assert answers[0].num_leases == 5


async def test_least_recently_used_idle_model_makes_room(setting: Setting) -> None:
    for name in ("a", "b"):
        setting.leases.release(await setting.load(model(name)))
        setting.now += 1
    setting.leases.release(await setting.load(model("a")))
    await setting.load(model("c"))
    assert setting.hosts.ended == [2]


async def test_a_model_in_use_is_waited_for_and_never_ended(setting: Setting) -> None:
    held = await setting.load(model("a"))
    await setting.load(model("b"))
    with anyio.move_on_after(0.05):
        await setting.leases.acquire(model("c"))
    assert setting.hosts.ended == []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(setting.leases.acquire, model("c"))
        await anyio.wait_all_tasks_blocked()
        setting.leases.release(held)
        await anyio.wait_all_tasks_blocked()
        assert setting.hosts.ended == [1]
        assert setting.hosts.started[-1].folder == "/models/c"
        setting.become_ready(3)


async def test_a_model_over_the_whole_budget_is_declined_at_once(setting: Setting) -> None:
    answer = await setting.leases.acquire(model("huge", 1000 * MIB))
    assert isinstance(answer, Declined)
    assert answer.reason is DeclineReason.TOO_LARGE
    assert answer.needed_bytes > answer.budget_bytes > 0


async def test_failure_to_load_reaches_everybody_and_is_remembered_for_a_while(
    setting: Setting,
) -> None:
    answers: list[Placement | Declined] = []

    async def acquire() -> None:
        answers.append(await setting.leases.acquire(model("a")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(acquire)
        tasks.start_soon(acquire)
        await anyio.wait_all_tasks_blocked()
        setting.leases.on_failed(1, HostFailed("no weights"))
        setting.leases.on_ended(HostEnded(1, 1))
    expected = Declined(0, DeclineReason.NOT_SERVABLE, "no weights")
    assert answers == [expected, expected]
    setting.now += 29
    assert await setting.leases.acquire(model("a")) == expected
    assert setting.leases.acquire_loaded(model("a")) == expected
    assert len(setting.hosts.started) == 1
    setting.now += 2
    await setting.load(model("a"))
    assert len(setting.hosts.started) == 2


async def test_host_that_dies_while_loading_is_tried_again_but_not_for_ever(
    setting: Setting,
) -> None:
    answers: list[Placement | Declined] = []

    async def acquire() -> None:
        answers.append(await setting.leases.acquire(model("a")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(acquire)
        for number in (1, 2, 3):
            await anyio.wait_all_tasks_blocked()
            setting.now += 2
            setting.leases.look_after()
            setting.leases.on_ready(99, HostReady(DESCRIPTION, 0))
            setting.leases._notify()
            await anyio.wait_all_tasks_blocked()
            assert len(setting.hosts.started) == number
            setting.leases.on_ended(HostEnded(number, -9))
    (answer,) = answers
    assert isinstance(answer, Declined)
    assert answer.reason is DeclineReason.NOT_SERVABLE
    assert "died 3 times" in answer.message


async def test_host_that_keeps_crashing_is_started_ever_later(setting: Setting) -> None:
    waited = []
    for number in range(1, 6):
        setting.leases.wish(model("a"))
        setting.leases.look_after()
        start = setting.now
        while len(setting.hosts.started) < number:
            setting.now += 0.5
            setting.leases.wish(model("a"))
            setting.leases.look_after()
        waited.append(setting.now - start)
        setting.become_ready(number)
        setting.leases.on_ended(HostEnded(number, -9))
    assert waited == [0, 0, 1, 2, 4]
    setting.now += 400
    setting.leases.on_ended(HostEnded(99, -9))
    assert isinstance(await setting.load(model("a")), Placement)


async def test_host_that_ran_for_a_while_is_started_again_at_once(setting: Setting) -> None:
    for number in range(1, 9):
        setting.leases.wish(model("a"))
        setting.leases.look_after()
        assert len(setting.hosts.started) == number
        setting.become_ready(number)
        setting.now += 90
        setting.leases.on_ended(HostEnded(number, -9))


async def test_hosts_that_go_with_the_fork_server_are_not_blamed(setting: Setting) -> None:
    for number in range(1, 6):
        setting.leases.release(await setting.load(model("a")))
        setting.leases.on_ended(HostEnded(number, -1, is_its_fault=False))
    assert len(setting.hosts.started) == 5


async def test_host_that_never_finishes_loading_is_ended(setting: Setting) -> None:
    answers: list[Placement | Declined] = []

    async def acquire() -> None:
        answers.append(await setting.leases.acquire(model("a")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(acquire)
        await anyio.wait_all_tasks_blocked()
        setting.now = load_limit_seconds(model("a")) - 1
        setting.leases.end_stuck()
        assert setting.hosts.ended == []
        setting.now += 2
        setting.leases.end_stuck()
        assert setting.hosts.ended == [1]
        setting.leases.on_ended(HostEnded(1, -9))
    (answer,) = answers
    assert isinstance(answer, Declined)
    assert answer.reason is DeclineReason.NOT_SERVABLE
    assert "took longer" in answer.message


async def test_loaded_models_are_never_stuck(setting: Setting) -> None:
    await setting.load(model("a"))
    setting.now = 10**6
    setting.leases.end_stuck()
    assert setting.hosts.ended == []


async def test_idle_models_are_unloaded_after_a_while(setting: Setting) -> None:
    held = await setting.load(model("a"))
    idle = await setting.load(model("b"))
    setting.leases.release(idle)
    setting.now += 59
    setting.leases.unload_idle()
    assert setting.hosts.ended == []
    setting.now += 2
    setting.leases.unload_idle()
    assert setting.hosts.ended == [2]
    assert held.num_leases == 1


async def test_a_wish_without_loading_only_finds_what_is_there(setting: Setting) -> None:
    answer = setting.leases.acquire_loaded(model("a"))
    assert answer == Declined(0, DeclineReason.LOADING, estimated_seconds=2.0)
    assert setting.hosts.started == []
    place = await setting.load(model("a"))
    assert setting.leases.acquire_loaded(model("a")) is place


async def test_a_wish_given_up_leaves_no_lease(setting: Setting) -> None:
    with anyio.move_on_after(0.05):
        await setting.leases.acquire(model("a"))
    setting.become_ready(1)
    place = await setting.load(model("a"))
    assert place.num_leases == 1


async def test_pinned_models_are_loaded_unasked_and_never_unloaded(setting: Setting) -> None:
    setting.leases.pin([model("a")])
    assert [order.folder for order in setting.hosts.started] == ["/models/a"]
    setting.become_ready(1)
    setting.leases.release(await setting.load(model("b")))
    setting.leases.release(await setting.load(model("c")))
    assert setting.hosts.ended == [2]
    setting.now += 10_000
    setting.leases.look_after()
    assert setting.hosts.ended == [2, 3]
    setting.leases.pin([])
    setting.leases.look_after()
    assert setting.hosts.ended == [2, 3, 1]


async def test_pinned_model_that_crashed_is_loaded_again_unasked(setting: Setting) -> None:
    setting.leases.pin([model("a")])
    setting.become_ready(1)
    setting.leases.on_ended(HostEnded(1, -9))
    setting.leases.look_after()
    assert len(setting.hosts.started) == 2
    setting.leases.on_failed(2, HostFailed("no weights"))
    setting.leases.on_ended(HostEnded(2, 1))
    for _ in range(10):
        setting.leases.look_after()
    assert len(setting.hosts.started) == 2


async def test_what_only_fits_without_the_pinned_models_is_too_large(setting: Setting) -> None:
    setting.leases.pin([model("a"), model("b")])
    setting.become_ready(1)
    answer = setting.leases.acquire_loaded(model("c"))
    assert isinstance(answer, Declined)
    assert answer.reason is DeclineReason.TOO_LARGE


async def test_vllm_is_given_time_to_load_and_memory_of_its_own(setting: Setting) -> None:
    by_vllm = msgspec.structs.replace(model("a"), options=EngineOptions(RunnerName.VLLM))
    assert load_limit_seconds(by_vllm) >= load_limit_seconds(model("a")) + 300
    answer = await setting.leases.acquire(by_vllm)
    assert isinstance(answer, Declined)
    assert answer.reason is DeclineReason.TOO_LARGE
    assert answer.needed_bytes > 2048 * MIB


async def test_a_model_in_fewer_bits_fits_where_the_whole_does_not(setting: Setting) -> None:
    stored = ModelSource("s", "s", "/models/s", 350 * MIB)
    answer = await setting.leases.acquire(stored)
    assert isinstance(answer, Declined)
    assert answer.reason is DeclineReason.TOO_LARGE
    options = EngineOptions(RunnerName.OPENVINO, weight_format=WeightFormat.INT8)
    await setting.load(msgspec.structs.replace(stored, key="i", options=options))


async def test_key_value_cache_counts_against_the_budget(setting: Setting) -> None:
    hungry = ModelSource("h", "h", "/models/h", MIB, cache_bytes=1000 * MIB)
    answer = await setting.leases.acquire(hungry)
    assert isinstance(answer, Declined)
    assert answer.reason is DeclineReason.TOO_LARGE
    assert answer.needed_bytes > 1000 * MIB


async def test_estimate_falls_while_the_model_loads_and_learns_from_those_before(
    setting: Setting,
) -> None:
    def estimate(name: str) -> float:
        return setting.leases.loading(model(name)).estimated_seconds

    before = estimate("a")
    setting.leases.wish(model("a"))
    setting.leases.look_after()
    told = []
    for _ in range(3):
        told.append(estimate("a"))
        setting.now += 0.5
    assert told == sorted(set(told), reverse=True)
    assert told[0] == before
    setting.now += 20
    assert estimate("a") == 1.0
    setting.become_ready(1)
    assert estimate("b") > before * 3


async def test_wish_that_found_no_room_is_granted_when_there_is_some(setting: Setting) -> None:
    held = await setting.load(model("a"))
    await setting.load(model("b"))
    with anyio.move_on_after(0):
        await setting.leases.acquire(model("c"))
    setting.leases.wish(model("c"))
    assert len(setting.hosts.started) == 2
    setting.leases.release(held)
    assert setting.hosts.started[-1].folder == "/models/c"


async def test_report_says_what_is_in_memory(setting: Setting) -> None:
    await setting.load(model("a"))
    setting.leases.pin([model("b")])
    report = setting.leases.report()
    assert [(m.name, m.is_loaded, m.is_pinned, m.num_leases) for m in report.models] == [
        ("a", True, False, 1),
        ("b", False, True, 0),
    ]
    assert report.num_loads == 1
    assert sum(m.reserved_bytes for m in report.models) <= report.budget_bytes
