"""What the caller used of the models, for their own eyes."""

from datetime import date, timedelta
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends
from starlette.responses import Response

from gatehouse.http.context import Services, ServicesDependency
from gatehouse.http.gates import AccountGate
from gatehouse.identity.actors import Actor
from gatehouse.identity.permissions import Permission
from gatehouse.inference.plans.usage import UsageLine

router = APIRouter()

_DAYS = 30

_SignedIn = Annotated[Actor, Depends(AccountGate(Permission.ACCOUNT_READ))]


@router.get("/api/usage")
def usage(services: ServicesDependency, actor: _SignedIn, since: date | None = None) -> Response:
    """Requests and tokens by day, token, organization billed and model; the last thirty days.

    What a call used is here a second after it ended.
    """
    assert actor.user is not None
    since = since or services.clock.now().date() - timedelta(days=_DAYS)
    lines = services.usage.lines(user_id=actor.user.id, since=since)
    # A model that was hidden from its users since would give away the name that it has now.
    known = {
        number
        for number in {line.repository_id for line in lines}
        if _may_know_of(services, actor, number)
    }
    body = {
        "since": since,
        "usage": [_described(line, is_known=line.repository_id in known) for line in lines],
    }
    return Response(msgspec.json.encode(body), media_type="application/json")


def _may_know_of(services: Services, actor: Actor, repository_id: int) -> bool:
    repository = services.repositories.by_id(repository_id)
    return repository is not None and services.access.may_know_of(actor, repository)


def _described(line: UsageLine, *, is_known: bool) -> dict[str, Any]:
    figures = line.figures
    return {
        "day": line.day,
        "token": line.token,
        "billedTo": line.organization,
        "model": line.model if is_known else None,
        "requests": figures.num_requests,
        "cachedRequests": figures.num_cached_requests,
        "promptTokens": figures.num_prompt_tokens,
        "generatedTokens": figures.num_generated_tokens,
        "seconds": round(figures.seconds, 3),
    }
