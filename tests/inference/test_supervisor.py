"""Who gets which host, with hosts that are only numbers: no process is started here."""

from dataclasses import dataclass, field

import anyio
import pytest

from gatehouse.engines.base import ModelDescription
from gatehouse.engines.messages import ForkHost, HostFailed, HostReady
from gatehouse.inference.host_processes import HostEnded
from gatehouse.inference.messages import Declined, DeclineReason, ModelSource
from gatehouse.inference.placement import Placement, load_limit_seconds, needed_bytes
from gatehouse.inference.supervisor import Supervisor, SupervisorOptions

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


@dataclass
class Setting:
    supervisor: Supervisor
    hosts: FakeHosts
    now: float = 0.0

    def become_ready(self, host_id: int) -> None:
        self.supervisor.on_ready(host_id, HostReady(DESCRIPTION, 0))

    async def load(self, source: ModelSource) -> Placement:
        """Acquire a model whose host is ready at once."""
        answers: list[Placement | Declined] = []

        async def acquire() -> None:
            answers.append(await self.supervisor.acquire(source))

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
    budget = needed_bytes(100 * MIB) * 2 + MIB
    options = SupervisorOptions("/nowhere/supervisor.sock", budget, 60.0, 2)
    supervisor = Supervisor(options)
    setting = Setting(supervisor, FakeHosts())
    supervisor.clock = lambda: setting.now
    supervisor.use(setting.hosts)
    return setting


def model(name: str, weight_bytes: int = 100 * MIB) -> ModelSource:
    return ModelSource(name, name, f"/models/{name}", weight_bytes)


async def test_many_wishes_load_a_model_once(setting: Setting) -> None:
    answers: list[Placement | Declined] = []

    async def acquire() -> None:
        answers.append(await setting.supervisor.acquire(model("a")))

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
        setting.supervisor.release(await setting.load(model(name)))
        setting.now += 1
    setting.supervisor.release(await setting.load(model("a")))
    await setting.load(model("c"))
    assert setting.hosts.ended == [2]


async def test_a_model_in_use_is_waited_for_and_never_ended(setting: Setting) -> None:
    held = await setting.load(model("a"))
    await setting.load(model("b"))
    with anyio.move_on_after(0.05):
        await setting.supervisor.acquire(model("c"))
    assert setting.hosts.ended == []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(setting.supervisor.acquire, model("c"))
        await anyio.wait_all_tasks_blocked()
        setting.supervisor.release(held)
        await anyio.wait_all_tasks_blocked()
        assert setting.hosts.ended == [1]
        assert setting.hosts.started[-1].folder == "/models/c"
        setting.become_ready(3)


async def test_a_model_over_the_whole_budget_is_declined_at_once(setting: Setting) -> None:
    answer = await setting.supervisor.acquire(model("huge", 1000 * MIB))
    assert isinstance(answer, Declined)
    assert answer.reason is DeclineReason.TOO_LARGE
    assert answer.needed_bytes > answer.budget_bytes > 0


async def test_failure_to_load_reaches_everybody_and_is_tried_again(setting: Setting) -> None:
    answers: list[Placement | Declined] = []

    async def acquire() -> None:
        answers.append(await setting.supervisor.acquire(model("a")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(acquire)
        tasks.start_soon(acquire)
        await anyio.wait_all_tasks_blocked()
        setting.supervisor.on_failed(1, HostFailed("no weights"))
        setting.supervisor.on_ended(HostEnded(1, 1))
    expected = Declined(0, DeclineReason.NOT_SERVABLE, "no weights")
    assert answers == [expected, expected]
    await setting.load(model("a"))
    assert len(setting.hosts.started) == 2


async def test_host_that_dies_while_loading_is_lost(setting: Setting) -> None:
    answers: list[Placement | Declined] = []

    async def acquire() -> None:
        answers.append(await setting.supervisor.acquire(model("a")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(acquire)
        await anyio.wait_all_tasks_blocked()
        setting.supervisor.on_ended(HostEnded(1, -9))
    assert answers == [Declined(0, DeclineReason.LOST)]


async def test_host_that_never_finishes_loading_is_ended(setting: Setting) -> None:
    answers: list[Placement | Declined] = []

    async def acquire() -> None:
        answers.append(await setting.supervisor.acquire(model("a")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(acquire)
        await anyio.wait_all_tasks_blocked()
        setting.now = load_limit_seconds(100 * MIB) - 1
        setting.supervisor.end_stuck()
        assert setting.hosts.ended == []
        setting.now += 2
        setting.supervisor.end_stuck()
        assert setting.hosts.ended == [1]
        setting.supervisor.on_ended(HostEnded(1, -9))
    (answer,) = answers
    assert isinstance(answer, Declined)
    assert answer.reason is DeclineReason.NOT_SERVABLE
    assert "took longer" in answer.message


async def test_loaded_models_are_never_stuck(setting: Setting) -> None:
    await setting.load(model("a"))
    setting.now = 10**6
    setting.supervisor.end_stuck()
    assert setting.hosts.ended == []


async def test_idle_models_are_unloaded_after_a_while(setting: Setting) -> None:
    held = await setting.load(model("a"))
    idle = await setting.load(model("b"))
    setting.supervisor.release(idle)
    setting.now += 59
    setting.supervisor.unload_idle()
    assert setting.hosts.ended == []
    setting.now += 2
    setting.supervisor.unload_idle()
    assert setting.hosts.ended == [2]
    assert held.num_leases == 1


async def test_a_wish_without_loading_only_finds_what_is_there(setting: Setting) -> None:
    answer = setting.supervisor.acquire_loaded(model("a"))
    assert answer == Declined(0, DeclineReason.NOT_LOADED)
    assert setting.hosts.started == []
    place = await setting.load(model("a"))
    assert setting.supervisor.acquire_loaded(model("a")) is place


async def test_a_wish_given_up_leaves_no_lease(setting: Setting) -> None:
    with anyio.move_on_after(0.05):
        await setting.supervisor.acquire(model("a"))
    setting.become_ready(1)
    place = await setting.load(model("a"))
    assert place.num_leases == 1
