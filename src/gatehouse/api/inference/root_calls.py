"""Calls of a model that the path does not name: the body does, or the settings do."""

from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from gatehouse.api.inference.calls import ModelCall
from gatehouse.http.actors import CurrentActor
from gatehouse.http.context import ServicesDependency
from gatehouse.http.model_gates import NamedModel, NamedModelGate, default_name, name_in_body

_InBody = Annotated[NamedModel, Depends(NamedModelGate(name_in_body))]
_Default = Annotated[NamedModel, Depends(NamedModelGate(default_name))]


async def call_by_body(
    request: Request, services: ServicesDependency, actor: CurrentActor, model: _InBody
) -> ModelCall:
    return ModelCall(request, services, actor, model.repository, model.revision)


async def call_by_default(
    request: Request, services: ServicesDependency, actor: CurrentActor, model: _Default
) -> ModelCall:
    return ModelCall(request, services, actor, model.repository, model.revision)


BodyCall = Annotated[ModelCall, Depends(call_by_body)]
DefaultCall = Annotated[ModelCall, Depends(call_by_default)]
