"""Adapters that calls name: which models take them, and from whom their files come."""

from anyio.to_thread import run_sync

from gatehouse.engines.base import RunnerName
from gatehouse.http.context import Services
from gatehouse.http.model_gates import NamedModel
from gatehouse.inference.errors import ValidationFailed
from gatehouse.inference.lifecycle.adapter_sources import AdapterSource
from gatehouse.inference.lifecycle.messages import ModelSource
from gatehouse.inference.remote.source import RemoteSource

# What is chosen for a model by itself, given adapters to run, is the one that runs them.
_RUN_ADAPTERS = frozenset({RunnerName.AUTO, RunnerName.OPENVINO})


class AdapterRefused(ValidationFailed):
    """What runs the model takes no adapters."""

    def __init__(self, runner: str) -> None:
        super().__init__(
            f"`adapter_id` needs the runner `{RunnerName.OPENVINO}`, and this model is run by "
            f"{runner}"
        )


async def with_adapter(
    services: Services, source: ModelSource | RemoteSource, adapter: NamedModel
) -> tuple[ModelSource, AdapterSource]:
    """The model in a host that takes adapters, and the adapter.

    Raises:
        AdapterRefused: It is run by something else.
        RevisionNotFound: The adapter has no such branch, tag or commit.
        AdapterNotServable: It cannot be read.
    """
    if isinstance(source, RemoteSource):
        raise AdapterRefused("another server")
    if source.options.runner not in _RUN_ADAPTERS:
        raise AdapterRefused(f"`{source.options.runner}`")
    sources, named = services.adapter_sources, (adapter.repository, adapter.revision)
    found = sources.remembered(*named)
    if found is None:
        found = await run_sync(sources.at, *named)
    return source.with_adapters(keeps_answers=found.keeps_answers), found
