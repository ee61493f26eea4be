"""Preupload, commit and the check of a card: the Hub's HTTP way to write to a repository."""

import base64
import binascii
from collections.abc import Iterator
from typing import IO, Annotated, Any

import msgspec
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse

from gatehouse.core.errors import Invalid, NotBuilt, TooLarge
from gatehouse.core.ids import RepoKind, is_sha256
from gatehouse.http.actors import CurrentActor
from gatehouse.http.addresses import repo_url
from gatehouse.http.bodies import spool_body
from gatehouse.http.bounded_route import BoundedRoute
from gatehouse.http.context import Services, ServicesDependency
from gatehouse.http.gates import PublicGate, RepoGate
from gatehouse.http.raw_path import decoded
from gatehouse.identity.actors import Actor
from gatehouse.identity.permissions import Permission
from gatehouse.repos.cards import ProblemKind, validate_card
from gatehouse.repos.commits import (
    AddFile,
    AddLargeFile,
    CommitHeader,
    DeleteDirectory,
    DeleteFile,
    Operation,
)
from gatehouse.repos.repository import Repository
from gatehouse.repos.uploads import Announced
from gatehouse.schemas.commit import (
    CommitLine,
    DeletedFileLine,
    DeletedFolderLine,
    FileLine,
    HeaderLine,
    LfsFileLine,
    decoder,
)
from gatehouse.schemas.hub import Preupload, ValidateYaml

router = APIRouter(route_class=BoundedRoute)

_Writable = Annotated[Repository, Depends(RepoGate(Permission.REPO_WRITE))]
_Anybody = Annotated[Actor, Depends(PublicGate("checks a text and keeps nothing"))]
_REPO = "/api/{kind:kind}/{namespace:name}/{name:name}"
_MAX_CARD = 4 * 1024 * 1024
_LINE_OVERHEAD = 64 * 1024


@router.post("/api/validate-yaml")
def validate_yaml(_actor: _Anybody, body: ValidateYaml) -> JSONResponse:
    """Always JSON: clients parse the body before they look at the status."""
    if len(body.content) > _MAX_CARD:
        raise TooLarge(f"`content` may have at most {_MAX_CARD} characters.")
    kinds = {kind.value: kind for kind in RepoKind}
    report = validate_card(body.content, kinds.get(body.repoType or "", RepoKind.MODEL))
    answer = {
        f"{kind.value}s": [{"message": item.message} for item in report if item.kind is kind]
        for kind in ProblemKind
    }
    return JSONResponse(answer, 400 if answer["errors"] else 200)


@router.post(_REPO + "/preupload/{revision:path}")
def preupload(
    revision: str,
    request: Request,
    services: ServicesDependency,
    repository: _Writable,
    body: Preupload,
) -> dict[str, Any]:
    _refuse_pull_request(request)
    commit_oid = services.files.commit_oid(repository, decoded(revision))
    announced = [Announced(file.path, file.size, _sample(file.sample)) for file in body.files]
    plans = services.uploads.plan(
        repository, commit_oid, announced, body.gitIgnore, body.gitAttributes
    )
    files = [
        {
            "path": plan.path,
            "uploadMode": "lfs" if plan.is_large else "regular",
            "shouldIgnore": plan.is_ignored,
            **({"oid": plan.oid} if plan.oid else {}),
        }
        for plan in plans
    ]
    return {"files": files, "commitOid": commit_oid}


@router.post(_REPO + "/commit/{revision:path}")
async def commit(
    revision: str,
    request: Request,
    services: ServicesDependency,
    actor: CurrentActor,
    repository: _Writable,
) -> dict[str, Any]:
    _refuse_pull_request(request)
    settings = services.settings
    spool = await spool_body(request, services.incoming, settings.max_commit_body_bytes)
    branch = decoded(revision).removeprefix("refs/heads/")
    with spool:
        oid = await run_sync(_commit, services, actor, repository, branch, spool)
    return {
        "success": True,
        "commitOid": oid,
        "commitUrl": repo_url(request, repository, "commit", oid),
        "hookOutput": "",
    }


def _commit(
    services: Services, actor: Actor, repository: Repository, branch: str, body: IO[bytes]
) -> str:
    limit = services.settings.max_regular_file_bytes * 4 // 3 + _LINE_OVERHEAD
    lines = _lines(body, limit)
    first = next(lines, None)
    if not isinstance(first, HeaderLine):
        raise Invalid("Line 1 of a commit must have the key `header`.")
    header = CommitHeader(
        first.value.summary, first.value.description, first.value.parentCommit or None
    )
    operations = (_operation(line) for line in lines)
    return services.commits.create(actor, repository, branch, header, operations)


def _lines(body: IO[bytes], limit: int) -> Iterator[CommitLine]:
    """Parse NDJSON line by line, so that one file at a time is in memory."""
    number = 0
    while line := body.readline(limit + 1):
        number += 1
        if len(line) > limit:
            raise TooLarge(f"Line {number} of the commit is over {limit} bytes.")
        if not line.strip():
            continue
        try:
            yield decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Invalid(f"Line {number} of the commit is not valid: {error}") from None


def _operation(line: CommitLine) -> Operation:
    match line:
        case FileLine(value=file):
            return AddFile(file.path, _content(file.content, file.encoding, file.path))
        case LfsFileLine(value=file):
            if file.algo != "sha256" or not is_sha256(file.oid):
                raise Invalid(f"`{file.path}`: `oid` must be a SHA-256 in lower-case hex.")
            return AddLargeFile(file.path, file.oid, file.size)
        case DeletedFileLine(value=deleted):
            return DeleteFile(deleted.path)
        case DeletedFolderLine(value=deleted):
            return DeleteDirectory(deleted.path)
        case _:
            raise Invalid("A commit may have one line with the key `header`, the first.")


def _content(text: str, encoding: str, path: str) -> bytes:
    if encoding == "utf-8":
        return text.encode("utf-8", "surrogatepass")
    if encoding != "base64":
        raise Invalid(f"`{path}`: `encoding` must be `base64` or `utf-8`.")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Invalid(f"`{path}`: `content` is not valid base64.") from None


def _sample(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError):
        raise Invalid("`sample` is not valid base64.") from None


def _refuse_pull_request(request: Request) -> None:
    if request.query_params.get("create_pr") in ("1", "true"):
        raise NotBuilt("Pull requests are not built yet: commit to a branch instead.")
