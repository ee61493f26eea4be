"""One call of a model: who calls, what they may, which model, how long it may take to load.

The gate has been passed before, as the route's dependency.
"""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, TypeVar

from anyio.to_thread import run_sync
from fastapi import Depends
from starlette.requests import ClientDisconnect, Request

from gatehouse.api.inference.adapters import with_adapter
from gatehouse.api.inference.answers import rate_limit_headers
from gatehouse.api.inference.departures import until_the_client_leaves
from gatehouse.api.inference.endings import note_end
from gatehouse.api.inference.patience import find_patience
from gatehouse.core.errors import GatehouseError
from gatehouse.engines.registry import EngineName
from gatehouse.http.actors import CurrentActor
from gatehouse.http.addresses import base_url
from gatehouse.http.client_address import client_address
from gatehouse.http.context import Services, ServicesDependency
from gatehouse.http.endings import on_end
from gatehouse.http.model_gates import MAIN, ModelGate, NamedModel, named_model
from gatehouse.identity.actors import Actor
from gatehouse.identity.counters import CountersBusy
from gatehouse.identity.plans import PlanLimits, plan_of
from gatehouse.inference.cache.response_cache import CacheOutcome
from gatehouse.inference.generation import Target
from gatehouse.inference.json_fields import Fields
from gatehouse.inference.lifecycle.messages import Claim, ModelSource
from gatehouse.inference.lifecycle.model_sources import TaskNotSupported
from gatehouse.inference.meter import Meter
from gatehouse.inference.parameters import read_adapter_id
from gatehouse.inference.plans.admission import Admitted, Caller, billed_organization
from gatehouse.inference.remote.source import RemoteSource
from gatehouse.inference.tasks import ENGINE_BY_TASK, TEXT_GENERATION
from gatehouse.repos.repository import Repository

_call_numbers = itertools.count(1)

Result = TypeVar("Result")
Runnable = Annotated[Repository, Depends(ModelGate())]


@dataclass(eq=False)
class ModelCall:
    """A request about one model. Built by `model_call` for each request.

    Attributes:
        revision: Which version of the model; its main branch, unless the caller named another.
        headers: For the answer, good or bad; filled while the call goes on.
        meter: What the call took so far.
        number: Tells the calls of this process apart.
        cache_outcome: What the response cache did for the call, if it was asked.
        num_new_tokens: How many it may generate; None before it was let in.
        ended_by: What ended it once it was let in; None at its regular end.
        adapter: What the model is run with, whose gate was passed too.
    """

    request: Request
    services: Services
    actor: Actor
    repository: Repository
    revision: str = MAIN
    headers: dict[str, str] = field(default_factory=lambda: {"x-compute-type": "cpu"})
    meter: Meter = field(default_factory=Meter)
    number: int = field(default_factory=lambda: next(_call_numbers))
    cache_outcome: CacheOutcome | None = None
    num_new_tokens: int | None = None
    ended_by: BaseException | None = None
    adapter: NamedModel | None = None
    _source: ModelSource | RemoteSource | None = None

    def __post_init__(self) -> None:
        metrics, headers = self.services.metrics, self.request.headers
        on_end(self.request, lambda ending: note_end(self, ending, metrics, headers))

    @property
    def name(self) -> str:
        return str(self.repository.repo_id)

    @property
    def plan(self) -> str:
        return plan_of(self.actor).value

    @property
    def user_agent(self) -> str:
        return self.request.headers.get("user-agent", "")

    @property
    def limits(self) -> PlanLimits:
        return self.services.admission.limits_of(self.actor)

    @property
    def owner(self) -> str:
        """Whose share of the response cache this call's answers take."""
        return self.caller.key

    @cached_property
    def caller(self) -> Caller:
        """Whose plan the call counts against, and who is billed.

        Raises:
            NotBillable: `X-HF-Bill-To` names no organization of the caller's.
        """
        billed = billed_organization(self.actor, self.request.headers.get("x-hf-bill-to"))
        pricing_url = f"{base_url(self.request)}/pricing"
        return Caller(self.actor, client_address(self.request), pricing_url, billed)

    @asynccontextmanager
    async def counted(self, num_new_tokens: int, num_prompts: int = 1) -> AsyncIterator[None]:
        """Count the call against the caller's plan, while it runs and in its windows.

        At most `num_new_tokens` will be generated; what `meter` says at the end is what counts.
        Each prompt is a request. A call that only learns that the model is loading does not count:
        clients ask again.

        Raises:
            GatehouseError: See `Admission.admit`; or NotBillable.
        """
        admission = self.services.admission
        self.num_new_tokens = num_new_tokens
        try:
            admitted = self._admit(num_new_tokens, num_prompts, may_wait=False)
        except CountersBusy:
            admitted = await admission.thread.run(self._admit, num_new_tokens, num_prompts)
        try:
            yield
        except BaseException as error:
            self.ended_by = error
            raise
        finally:
            admission.end(admitted, self.meter, self.ended_by)

    async def use_adapter(self, values: Mapping[str, Any]) -> None:
        """Pass the gate of the adapter that the parameters name, if they name one.

        Raises:
            ValidationFailed: `adapter_id` is no name.
            GatehouseError: See `named_model`.
        """
        name = read_adapter_id(Fields(values))
        if name is not None:
            self.adapter = await named_model(self.services, self.actor, name)

    async def is_for_vectors(self) -> bool:
        """Whether the model gives vectors; False for one that cannot be run at all."""
        try:
            return _engine_of(await self._found_source()) is EngineName.EMBEDDINGS
        except GatehouseError:
            return False

    async def text_task(self) -> str | None:
        """What a model of text does; None for one that cannot be run at all."""
        try:
            source = await self._found_source()
        except GatehouseError:
            return None
        return source.task if isinstance(source, ModelSource) else TEXT_GENERATION

    async def find_model(
        self, body: dict[str, Any], *, is_stream: bool, task: str = TEXT_GENERATION
    ) -> Target:
        """The model as its branch has it now, to be run for a task.

        Raises:
            TaskNotSupported: Its task is another.
            ModelNotServable: It has no weights that can be loaded.
            TooLargeForPlan: The caller's plan does not include models of its size.
        """
        source = await self._found_source()
        version, adapter = source.version, None
        if _engine_of(source) is not ENGINE_BY_TASK[task]:
            raise TaskNotSupported(task, self.name)
        self.services.admission.require_size(self.caller, self.name, source.weight_bytes)
        if self.adapter is not None:
            source, found = await with_adapter(self.services, source, self.adapter)
            version, adapter = f"{source.version}:{found.version}", found.folder
        patience = find_patience(
            self.request.headers,
            body.get("options"),
            is_stream=is_stream,
            cold_wait_seconds=self.services.settings.cold_model_wait_seconds,
        )
        return Target(
            name=self.name,
            version=version,
            source=source,
            meter=self.meter,
            wait_seconds=patience.wait_seconds,
            may_load=patience.may_load,
            claim=Claim(self.caller.key, self.limits.num_concurrent, self.number),
            adapter=adapter,
        )

    async def unless_client_leaves(self, run: Callable[[], Awaitable[Result]]) -> Result:
        """What `run` gives, which is cancelled when nobody is left to read it.

        Raises:
            ClientDisconnect: The client left.
        """
        with until_the_client_leaves(self.request.receive):
            return await run()
        raise ClientDisconnect

    def _admit(self, num_new_tokens: int, num_prompts: int, *, may_wait: bool = True) -> Admitted:
        admission, caller = self.services.admission, self.caller
        try:
            admitted = admission.admit(
                caller,
                self.repository,
                num_new_tokens=num_new_tokens,
                num_requests=num_prompts,
                may_wait=may_wait,
            )
        except GatehouseError:
            self.headers.update(rate_limit_headers(admission.standing(caller)))
            raise
        self.headers.update(rate_limit_headers(admitted.reservation.allowance))
        return admitted

    async def _found_source(self) -> ModelSource | RemoteSource:
        services, repository = self.services, self.repository
        if self._source is None and services.remote_engines.is_known_to_be_without(repository):
            self._source = services.model_sources.remembered(repository, self.revision)
        if self._source is None:
            self._source = await run_sync(self._find_source)
        return self._source

    def _find_source(self) -> ModelSource | RemoteSource:
        """Blocking: reads git."""
        services, repository = self.services, self.repository
        engine = services.remote_engines.find(repository)
        if engine is None:
            return services.model_sources.at(repository, self.revision)
        commit_oid = services.files.commit_oid(repository, self.revision)
        return services.remote_engines.source(repository, engine, commit_oid)


def _engine_of(source: ModelSource | RemoteSource) -> EngineName:
    """Other servers are asked for text alone."""
    return source.engine if isinstance(source, ModelSource) else EngineName.TEXT_GENERATION


async def model_call(
    request: Request,
    services: ServicesDependency,
    actor: CurrentActor,
    repository: Runnable,
) -> ModelCall:
    named = request.path_params.get("revision") or request.query_params.get("revision")
    return ModelCall(request, services, actor, repository, str(named or MAIN))


ModelCallDependency = Annotated[ModelCall, Depends(model_call)]
