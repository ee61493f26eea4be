"""OpenAI's list of models: those that this caller may run, and one of them."""

from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.api.inference.answers import json_answer
from gatehouse.api.inference.calls import Runnable
from gatehouse.api.inference.paths import model_paths, root_paths
from gatehouse.api.inference.refusals import InferenceRoute
from gatehouse.http.actors import CurrentActor
from gatehouse.http.context import Services, ServicesDependency
from gatehouse.http.gates import PublicGate
from gatehouse.http.model_gates import (
    ModelNotFound,
    NamedModel,
    NamedModelGate,
    name_in_path,
    require_name,
)
from gatehouse.identity.actors import Actor, Plan
from gatehouse.inference.catalogue import ServedModel
from gatehouse.repos.repository import Repository

router = APIRouter(route_class=InferenceRoute)

_Anybody = Annotated[Actor, Depends(PublicGate("lists only what the caller may run"))]
_InPath = Annotated[NamedModel, Depends(NamedModelGate(name_in_path))]
_PROVIDER = "hf-inference"


async def list_models(services: ServicesDependency, actor: _Anybody) -> Response:
    """Every model that the caller may run."""
    models = await run_sync(services.catalogue.models, actor)
    return _list([_entry(model, actor) for model in models])


async def one_model(services: ServicesDependency, actor: CurrentActor, model: _InPath) -> Response:
    """One model; `rest` is its id, whose slash may be encoded."""
    return json_answer(await _found(services, actor, model.repository), {})


async def models_here(
    services: ServicesDependency, actor: CurrentActor, repository: Runnable
) -> Response:
    return _list([await _found(services, actor, repository)])


async def model_here(
    request: Request, services: ServicesDependency, actor: CurrentActor, repository: Runnable
) -> Response:
    """The path's model, if `rest` names it."""
    require_name(request, repository)
    return json_answer(await _found(services, actor, repository), {})


def _list(entries: list[dict[str, Any]]) -> Response:
    return json_answer({"object": "list", "data": entries}, {})


async def _found(services: Services, actor: Actor, repository: Repository) -> dict[str, Any]:
    model = await run_sync(services.catalogue.model, repository)
    if model is None:
        raise ModelNotFound(str(repository.repo_id))
    return _entry(model, actor)


def _entry(model: ServedModel, actor: Actor) -> dict[str, Any]:
    entry = {
        "id": model.name,
        "object": "model",
        "created": int(model.repository.created_at.timestamp()),
        "owned_by": model.repository.repo_id.namespace,
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "providers": [{"provider": _PROVIDER, "status": "live"}],
    }
    is_paying = actor.user is not None and actor.user.plan is not Plan.FREE
    if model.needs_pro and not is_paying:
        entry["gated_by_plan"] = Plan.PRO.value
    return entry


for _path in root_paths("/v1/models"):
    router.add_api_route(_path, list_models, methods=["GET"], include_in_schema=False)
router.add_api_route("/v1/models/{rest:path}", one_model, methods=["GET"], include_in_schema=False)
for _path in model_paths("/v1/models"):
    router.add_api_route(_path, models_here, methods=["GET"], include_in_schema=False)
for _path in model_paths("/v1/models/{rest:path}", ends=("",)):
    router.add_api_route(_path, model_here, methods=["GET"], include_in_schema=False)
