"""Inference routes that clients know and this version does not serve: 501 each, after the gate."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from gatehouse.api.inference.paths import root_paths
from gatehouse.api.inference.refusals import InferenceRoute
from gatehouse.core.errors import NotBuilt
from gatehouse.http.gates import ChosenGate
from gatehouse.identity.actors import Actor
from gatehouse.identity.permissions import Permission

router = APIRouter(route_class=InferenceRoute)

_GATE = ChosenGate(Permission.INFERENCE_RUN, "it only says that it is not built")
_Anybody = Annotated[Actor, Depends(_GATE)]
_POSTED = (
    "/v1/audio/transcriptions",
    "/v1/audio/speech",
    "/v1/images/generations",
)
_WHY = "This inference route is not built yet."


def not_built(_actor: _Anybody) -> Response:
    raise NotBuilt(_WHY)


for _rest in _POSTED:
    for _path in root_paths(_rest):
        router.add_api_route(_path, not_built, methods=["POST"], include_in_schema=False)
