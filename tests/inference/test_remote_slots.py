"""Places at a server, and the line for them."""

import anyio
import pytest

from gatehouse.inference.errors import ModelOverloaded
from gatehouse.inference.remote import slots
from gatehouse.inference.remote.slots import Slots

pytestmark = pytest.mark.anyio


async def test_a_full_line_keeps_out_only_who_would_go_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slots, "_MAX_WAITING", 1)
    places = Slots(1)
    order: list[str] = []

    async def take(name: str, priority: int) -> None:
        async with places.taken(priority):
            order.append(name)

    async with anyio.create_task_group() as tasks, places.taken(2):
        for name, priority in (("free", 2), ("pro", 1)):
            tasks.start_soon(take, name, priority)
            await anyio.wait_all_tasks_blocked()
        for priority in (1, 2):
            with pytest.raises(ModelOverloaded):
                await take("late", priority)
    assert order == ["pro", "free"]
