"""Names without an owner, such as `gpt2`: older clients send them; no repository here has one."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from gatehouse.api.inference.paths import root_paths
from gatehouse.api.inference.refusals import InferenceRoute
from gatehouse.http.gates import ChosenGate
from gatehouse.http.model_gates import ModelNotFound
from gatehouse.identity.actors import Actor
from gatehouse.identity.permissions import Permission

router = APIRouter(route_class=InferenceRoute)

_GATE = ChosenGate(Permission.INFERENCE_RUN, "no repository has such a name")
_Anybody = Annotated[Actor, Depends(_GATE)]


def no_model(legacy: str, _actor: _Anybody) -> Response:
    raise ModelNotFound(legacy)


for _path in (
    *root_paths("/{proxy:proxy}models/{legacy:name}"),
    *root_paths("/{proxy:proxy}pipeline/{task:name}/{legacy:name}"),
):
    router.add_api_route(_path, no_model, methods=["POST"], include_in_schema=False)
for _path in root_paths("/status/{legacy:name}"):
    router.add_api_route(_path, no_model, methods=["GET"], include_in_schema=False)
