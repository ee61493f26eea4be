"""Routes that clients know and this version does not serve: an honest 501 each, after the gate."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from gatehouse.core.errors import NotBuilt
from gatehouse.http.gates import RepoGate
from gatehouse.identity.permissions import Permission
from gatehouse.repos.repository import Repository

router = APIRouter()

_Readable = Annotated[Repository, Depends(RepoGate(Permission.REPO_METADATA))]
_Writable = Annotated[Repository, Depends(RepoGate(Permission.REPO_WRITE))]
_REPO = "/api/{kind:kind}/{namespace:name}/{name:name}"


@router.get(_REPO + "/discussions")
@router.get(_REPO + "/discussions/{rest:path}")
def discussions(_repository: _Readable, rest: str = "") -> Response:
    # An empty list instead would let transformers send the caller's token to a conversion service.
    raise NotBuilt("Discussions and pull requests are not built yet.")


@router.post(_REPO + "/discussions")
@router.post(_REPO + "/discussions/{rest:path}")
def change_discussions(_repository: _Writable, rest: str = "") -> Response:
    raise NotBuilt("Discussions and pull requests are not built yet.")


@router.get(_REPO + "/refs")
@router.get(_REPO + "/commits/{rest:path}")
@router.get(_REPO + "/compare/{rest:path}")
@router.get(_REPO + "/lfs-files")
def history(_repository: _Readable, rest: str = "") -> Response:
    raise NotBuilt("This part of the Hub API is not built yet: use git for history and branches.")


@router.post(_REPO + "/branch/{rest:path}")
@router.delete(_REPO + "/branch/{rest:path}")
@router.post(_REPO + "/tag/{rest:path}")
@router.delete(_REPO + "/tag/{rest:path}")
@router.post(_REPO + "/super-squash/{rest:path}")
@router.post(_REPO + "/lfs-files/batch")
@router.post(_REPO + "/duplicate")
def change_history(_repository: _Writable, rest: str = "") -> Response:
    raise NotBuilt("This part of the Hub API is not built yet: use git for branches and tags.")
