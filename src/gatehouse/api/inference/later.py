"""Inference routes that clients know and this version does not serve: 501 each, after the gate."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from gatehouse.api.inference.calls import Runnable
from gatehouse.api.inference.paths import model_paths
from gatehouse.core.errors import NotBuilt
from gatehouse.http.gates import ChosenGate
from gatehouse.identity.actors import Actor
from gatehouse.identity.permissions import Permission

router = APIRouter()

_GATE = ChosenGate(Permission.INFERENCE_RUN, "it only says that it is not built")
_Anybody = Annotated[Actor, Depends(_GATE)]
_POSTED = (
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/tokenize",
    "/chat_tokenize",
    "/pipeline/{task}",
)
_READ = ("/metrics", "/v1/models")
_ROOT_POSTED = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/audio/transcriptions",
    "/v1/audio/speech",
    "/v1/images/generations",
)
_ROOT_READ = ("/v1/models", "/v1/models/{rest:path}", "/framework/{framework}", "/api/tasks")


def not_built_for_model(_repository: Runnable) -> Response:
    raise NotBuilt(
        "This inference route is not built yet. Text generation is at `/models/{id}`, chat at "
        "`/models/{id}/v1/chat/completions`."
    )


def not_built(_actor: _Anybody) -> Response:
    raise NotBuilt(
        "This inference route is not built yet. Name the model in the address: "
        "`/models/{id}/v1/chat/completions`."
    )


for _rest in _POSTED:
    for _path in model_paths(_rest, ends=("",)):
        router.add_api_route(_path, not_built_for_model, methods=["POST"], include_in_schema=False)
for _rest in _READ:
    for _path in model_paths(_rest, ends=("",)):
        router.add_api_route(_path, not_built_for_model, methods=["GET"], include_in_schema=False)
router.add_api_route(
    "/pipeline/{task}/{namespace:name}/{name:name}",
    not_built_for_model,
    methods=["POST"],
    include_in_schema=False,
)
for _path in _ROOT_POSTED:
    router.add_api_route(_path, not_built, methods=["POST"], include_in_schema=False)
for _path in _ROOT_READ:
    router.add_api_route(_path, not_built, methods=["GET"], include_in_schema=False)
