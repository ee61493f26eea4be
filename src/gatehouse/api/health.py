"""Whether this process answers. For load balancers and start scripts; it says nothing else."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from gatehouse.http.gates import PublicGate
from gatehouse.identity.actors import Actor

router = APIRouter()


@router.head("/health", include_in_schema=False)
@router.get("/health")
@router.get("/ping")
def health(_actor: Annotated[Actor, Depends(PublicGate("says only that it answers"))]) -> Response:
    return Response()
