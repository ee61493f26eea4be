"""Who a credential speaks for, and the small talk of clients around it."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.core.clock import to_wire
from gatehouse.http.addresses import base_url
from gatehouse.http.context import ServicesDependency
from gatehouse.http.gates import AccountGate, PublicGate
from gatehouse.identity.actors import Actor, Membership, Plan
from gatehouse.identity.permissions import Permission
from gatehouse.identity.tokens import AccessToken, TokenKind

router = APIRouter()

_SignedIn = Annotated[Actor, Depends(AccountGate(Permission.ACCOUNT_READ))]


@router.get("/api/whoami-v2")
def whoami(request: Request, services: ServicesDependency, actor: _SignedIn) -> dict[str, Any]:
    """The account behind the credential, with the keys of the Hub's clients."""
    user = actor.user
    assert user is not None
    token = services.tokens.get(user.id, actor.token_id) if actor.token_id is not None else None
    # Accounts have no pictures of their own.
    avatar = f"{base_url(request)}/static/mark.svg"
    return {
        "type": "user",
        "id": str(user.id),
        "name": user.name,
        "fullname": user.fullname or user.name,
        "email": user.email,
        "emailVerified": False,
        "canPay": False,
        "periodEnd": None,
        "isPro": user.plan is not Plan.FREE,
        "avatarUrl": avatar,
        "orgs": [_organization(membership, avatar) for membership in user.memberships],
        "auth": _credential(token),
    }


@router.get(
    "/api/agent-harnesses",
    dependencies=[Depends(PublicGate("the same empty registry for everybody"))],
)
def agent_harnesses() -> dict[str, Any]:
    """Which environment variables betray a coding agent to clients: none that we care about."""
    return {"standardEnvVars": [], "harnesses": {}}


@router.head(
    "/api/telemetry/{topic:path}",
    dependencies=[Depends(PublicGate("takes nothing in and gives nothing out"))],
)
def telemetry(topic: str) -> Response:
    """Let clients report; nothing is kept."""
    return Response(status_code=204)


def _organization(membership: Membership, avatar: str) -> dict[str, Any]:
    return {
        "type": "org",
        "id": str(membership.organization_id),
        "name": membership.organization_name,
        "fullname": membership.organization_fullname or membership.organization_name,
        "email": None,
        "canPay": False,
        "periodEnd": None,
        "isEnterprise": False,
        "avatarUrl": avatar,
        "roleInOrg": membership.role.value,
    }


def _credential(token: AccessToken | None) -> dict[str, Any]:
    """The `auth` key. A device sign-in has no name: clients then store it as `oauth-{user}`."""
    if token is None:
        return {"type": "session"}
    shown = {"role": token.role.value, "createdAt": to_wire(token.created_at)}
    if token.kind is TokenKind.USER:
        shown["displayName"] = token.name
    credential: dict[str, Any] = {
        "type": "access_token" if token.kind is TokenKind.USER else "oauth",
        "accessToken": shown,
    }
    if token.expires_at is not None:
        credential["expiresAt"] = to_wire(token.expires_at)
    return credential
