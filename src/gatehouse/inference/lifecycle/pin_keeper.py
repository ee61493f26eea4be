"""Tells the supervisor which models to keep in memory, whenever that changes.

Each worker does, with the same result: a pin was added, a pinned branch moved, the supervisor was
started anew.
"""

from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup
from anyio.to_thread import run_sync
from sqlalchemy.exc import SQLAlchemyError

from gatehouse.core.errors import GatehouseError
from gatehouse.inference.errors import SupervisorAbsent
from gatehouse.inference.lifecycle.hosts import ModelHosts
from gatehouse.inference.lifecycle.messages import ModelSource
from gatehouse.inference.lifecycle.model_sources import ModelSources
from gatehouse.inference.lifecycle.pinned_models import Pin, PinnedModels
from gatehouse.observability.logging import logger
from gatehouse.repos.repositories import Repositories

_LOOK_SECONDS = 2.0


class PinKeeper:
    """An async context manager that runs while the hub does.

    Args:
        pins: What is pinned.
        repositories: Where the pinned models are.
        sources: Finds what a host loads.
        hosts: Which of them is told.
        is_needed: False where there is no supervisor.
        look_seconds: How soon a change is seen.
    """

    def __init__(
        self,
        pins: PinnedModels,
        repositories: Repositories,
        sources: ModelSources,
        hosts: ModelHosts,
        *,
        is_needed: bool = True,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        self._pins = pins
        self._repositories = repositories
        self._sources = sources
        self._hosts = hosts
        self._is_needed = is_needed
        self._look_seconds = look_seconds
        self._complaints: dict[Pin, str] = {}
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._tasks = await anyio.create_task_group().__aenter__()
        if self._is_needed:
            self._tasks.start_soon(self._run)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._tasks is not None
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(kind, error, traceback)

    async def keep_once(self) -> None:
        """Bring the supervisor up to date; try again later if it, or the database, is away."""
        try:
            await self._hosts.pin(await run_sync(self._find_sources))
        except SupervisorAbsent:
            return
        except SQLAlchemyError as error:
            logger.warning("pinned models could not be read", reason=type(error).__name__)

    async def _run(self) -> None:
        while True:
            await self.keep_once()
            await anyio.sleep(self._look_seconds)

    def _find_sources(self) -> list[ModelSource]:
        """Blocking. A pin that leads nowhere is left out, which is logged once."""
        found = ((pin, self._find(pin)) for pin in self._pins.all())
        # A branch and a tag may be the same commit, or differ in the card only.
        return list({source.key: source for _, source in found if source is not None}.values())

    def _find(self, pin: Pin) -> ModelSource | None:
        repository = self._repositories.by_id(pin.repository_id)
        if repository is None:
            return None
        try:
            source = self._sources.at(repository, pin.revision)
        except GatehouseError as error:
            if self._complaints.get(pin) != error.message:
                self._complaints[pin] = error.message
                logger.warning(
                    "a pinned model cannot be run",
                    model=str(repository.repo_id),
                    revision=pin.revision,
                    reason=error.message,
                )
            return None
        self._complaints.pop(pin, None)
        return source
