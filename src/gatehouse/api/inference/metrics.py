"""Prometheus metrics: all of them for administrators, a model's own for those who may run it."""

from collections.abc import Iterable
from typing import Annotated

import anyio
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from starlette.responses import Response

from gatehouse.api.inference.calls import Runnable
from gatehouse.api.inference.paths import model_paths
from gatehouse.api.inference.refusals import InferenceRoute
from gatehouse.http.context import Services, ServicesDependency
from gatehouse.http.gates import AdminGate
from gatehouse.identity.actors import Actor
from gatehouse.inference.errors import SupervisorAbsent
from gatehouse.inference.lifecycle.messages import Report
from gatehouse.observability.metrics import CONTENT_TYPE

router = APIRouter(route_class=InferenceRoute)

_ANSWER_SECONDS = 2.0
_LABELS = ("model", "version")
_Administrator = Annotated[Actor, Depends(AdminGate())]


async def all_metrics(_actor: _Administrator, services: ServicesDependency) -> Response:
    others = [*_of_supervisor(await _report(services)), *await run_sync(_of_cache, services)]
    return _answer(await run_sync(services.metrics.render, others))


async def model_metrics(repository: Runnable, services: ServicesDependency) -> Response:
    others = _of_supervisor(await _report(services))
    model = str(repository.repo_id)
    return _answer(await run_sync(services.metrics.render, others, model))


def _answer(text: bytes) -> Response:
    return Response(text, headers={"content-type": CONTENT_TYPE})


async def _report(services: Services) -> Report | None:
    """What the supervisor has in memory; None without one, since the rest can still be told."""
    if services.settings.supervisor_socket is None:
        return None
    with anyio.move_on_after(_ANSWER_SECONDS):
        try:
            return await services.hosts.report()
        except SupervisorAbsent:
            return None
    return None


def _of_supervisor(report: Report | None) -> Iterable[Metric]:
    up = "Whether the supervisor of model hosts answers"
    yield GaugeMetricFamily("gatehouse_supervisor_up", up, value=report is not None)
    if report is None:
        return
    yield from _of_models(report)
    for name, about, value in (
        ("gatehouse_models_memory_budget_bytes", "What all models may take", report.budget_bytes),
        ("gatehouse_models_waiting", "Requests that wait for a model", report.num_waiting),
    ):
        yield GaugeMetricFamily(name, about, value=value)
    for name, about, value in (
        ("gatehouse_model_loads", "Models that were loaded", report.num_loads),
        (
            "gatehouse_model_failed_loads",
            "Models that could not be loaded",
            report.num_failed_loads,
        ),
        ("gatehouse_model_crashes", "Hosts that died by themselves", report.num_crashes),
        ("gatehouse_model_unloads", "Models that were unloaded", report.num_unloads),
    ):
        yield CounterMetricFamily(name, about, value=value)


def _of_models(report: Report) -> Iterable[Metric]:
    loaded = GaugeMetricFamily("gatehouse_model_loaded", "1 once it is loaded", labels=_LABELS)
    pinned = GaugeMetricFamily("gatehouse_model_pinned", "1 if it stays", labels=_LABELS)
    leases = GaugeMetricFamily("gatehouse_model_leases", "Requests that hold it", labels=_LABELS)
    reserved = GaugeMetricFamily(
        "gatehouse_model_reserved_bytes", "What it counts for in the budget", labels=_LABELS
    )
    resident = GaugeMetricFamily(
        "gatehouse_model_resident_bytes", "What its process takes", labels=_LABELS
    )
    for model in report.models:
        labels = (model.name, model.version)
        loaded.add_metric(labels, model.is_loaded)
        pinned.add_metric(labels, model.is_pinned)
        leases.add_metric(labels, model.num_leases)
        reserved.add_metric(labels, model.reserved_bytes)
        resident.add_metric(labels, model.resident_bytes)
    return loaded, pinned, leases, reserved, resident


def _of_cache(services: Services) -> Iterable[Metric]:
    """Blocking."""
    num_entries, num_bytes = services.response_cache.count()
    about = "Answers in the response cache"
    return [
        GaugeMetricFamily("gatehouse_response_cache_entries", about, value=num_entries),
        GaugeMetricFamily("gatehouse_response_cache_bytes", f"Size of {about}", value=num_bytes),
    ]


router.add_api_route("/metrics", all_metrics, methods=["GET"], include_in_schema=False)
for _path in model_paths("/metrics"):
    router.add_api_route(_path, model_metrics, methods=["GET"], include_in_schema=False)
