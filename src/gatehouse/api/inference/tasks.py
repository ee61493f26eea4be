"""Which tasks are served by which models, and running a model by the name of a task."""

from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.api.inference.answers import json_answer
from gatehouse.api.inference.bodies import read_inputs
from gatehouse.api.inference.calls import ModelCallDependency
from gatehouse.api.inference.embeddings import answer_features, answer_similarity
from gatehouse.api.inference.generate import answer_text_task
from gatehouse.api.inference.paths import MODEL, model_paths
from gatehouse.api.inference.refusals import InferenceRoute
from gatehouse.engines.registry import EngineName
from gatehouse.http.context import ServicesDependency
from gatehouse.http.gates import PublicGate
from gatehouse.identity.actors import Actor
from gatehouse.inference.lifecycle.model_sources import TaskNotSupported
from gatehouse.inference.tasks import ENGINE_BY_TASK, SENTENCE_SIMILARITY, may_be_asked

router = APIRouter(route_class=InferenceRoute)

_Anybody = Annotated[Actor, Depends(PublicGate("lists only what the caller may run"))]


async def pipeline(task: str, call: ModelCallDependency, request: Request) -> Response:
    """Run a model, if the task is one that it does."""
    engine = ENGINE_BY_TASK.get(task)
    if engine is None:
        raise TaskNotSupported(task, call.name)
    if engine is EngineName.TEXT_GENERATION:
        own = await call.text_task()
        if own is not None and not may_be_asked(own, task):
            raise TaskNotSupported(task, call.name)
        return await answer_text_task(call, request, task)
    body = await read_inputs(request)
    if task == SENTENCE_SIMILARITY:
        return await answer_similarity(call, body)
    return await answer_features(call, body)


async def framework(framework: str, services: ServicesDependency, actor: _Anybody) -> Response:
    """Models that one framework serves; none for a framework that serves none."""
    models = await run_sync(services.catalogue.models, actor)
    found = [
        {"model_id": model.name, "task": model.task, "sha": model.info.commit_oid}
        for model in models
        if model.framework == framework
    ]
    return json_answer(found, {})


async def tasks(services: ServicesDependency, actor: _Anybody) -> Response:
    """For each task the models that this caller can run; clients take the first."""
    models = await run_sync(services.catalogue.models, actor)
    names: dict[str, list[str]] = {}
    for model in sorted(models, key=lambda model: model.needs_pro):
        for task in model.tasks:
            names.setdefault(task, []).append(model.name)
    return json_answer({task: _task(task, found) for task, found in names.items()}, {})


def _task(task: str, names: list[str]) -> dict[str, Any]:
    return {"id": task, "widgetModels": names, "models": [{"id": name} for name in names]}


for _path in (
    *model_paths("/pipeline/{task:name}"),
    f"/{{proxy:proxy}}pipeline/{{task:name}}/{MODEL}{{end:end}}",
):
    router.add_api_route(_path, pipeline, methods=["POST"], include_in_schema=False)
router.add_api_route(
    "/framework/{framework:name}", framework, methods=["GET"], include_in_schema=False
)
router.add_api_route("/api/tasks", tasks, methods=["GET"], include_in_schema=False)
