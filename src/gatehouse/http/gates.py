"""The gate each route declares, exactly one of them, as a dependency.

`tests/flows/test_route_table.py` walks the routes and fails for one that declares none. The
decision itself is `repos/access.py`'s.
"""

from dataclasses import dataclass

from anyio.to_thread import run_sync
from starlette.requests import Request

from gatehouse.core.errors import Forbidden, GatehouseError, Unauthenticated
from gatehouse.core.ids import RepoId, RepoKind
from gatehouse.http.actors import CurrentActor, token_of
from gatehouse.http.context import services_of
from gatehouse.identity.actors import ANONYMOUS, Actor, capability_actor
from gatehouse.identity.capabilities import CapabilityRefused, Purpose
from gatehouse.identity.permissions import Permission
from gatehouse.repos.access import missing_scope
from gatehouse.repos.repository import Repository

# Xet clients hold on to a token until its last second and give up at the first refusal.
_XET_GRACE_SECONDS = 900


class RouteGate:
    """Marks a dependency as a route's gate."""


@dataclass(frozen=True)
class RepoGate(RouteGate):
    """The route is about the repository in its path, and needs `permission` over it."""

    permission: Permission

    async def __call__(self, request: Request, actor: CurrentActor) -> Repository:
        kind, repo_id = _repository_in(request)
        repositories = services_of(request).repositories
        known = repositories.remembered(actor, kind, repo_id, self.permission)
        if known is not None:
            return known
        return await run_sync(repositories.require, actor, kind, repo_id, self.permission)


@dataclass(frozen=True)
class AccountGate(RouteGate):
    """The route is about the caller, who has to be signed in."""

    permission: Permission

    async def __call__(self, actor: CurrentActor) -> Actor:
        if actor.is_anonymous:
            raise Unauthenticated("You must be signed in.")
        if not actor.may(self.permission):
            raise missing_scope(actor, self.permission)
        return actor


@dataclass(frozen=True)
class AdminGate(RouteGate):
    """The route is for administrators, by whatever credential of theirs."""

    def __call__(self, actor: CurrentActor) -> Actor:
        if actor.user is None:
            raise Unauthenticated("You must be signed in.")
        if not actor.user.is_admin:
            raise Forbidden("This is for administrators.")
        return actor


@dataclass(frozen=True)
class PublicGate(RouteGate):
    """Anybody may call it.

    `reason` says why it neither yields a repository's bytes nor changes one.
    """

    reason: str

    async def __call__(self, actor: CurrentActor) -> Actor:
        return actor


@dataclass(frozen=True)
class ChosenGate(RouteGate):
    """The repository is named in the body, so the handler asks the same gate itself."""

    permission: Permission
    reason: str

    async def __call__(self, actor: CurrentActor) -> Actor:
        return actor


@dataclass(frozen=True, slots=True)
class Admitted:
    """What a capability stood for, with the rights asked anew.

    Attributes:
        subject: The object it names; empty for the whole repository.
        size: Bytes it allows to send.
    """

    actor: Actor
    repository: Repository
    subject: str
    size: int


@dataclass(frozen=True)
class CapabilityGate(RouteGate):
    """The route is opened by a signed capability: in the query (addresses) or as Bearer (Xet).

    `refusal` is the kind of error that a capability which is not valid, or no longer, becomes.
    """

    permission: Permission
    purposes: frozenset[Purpose]
    in_query: bool = False
    refusal: type[GatehouseError] = CapabilityRefused

    def __call__(self, request: Request) -> Admitted:
        try:
            return self._admit(request)
        except CapabilityRefused as error:
            raise self.refusal(error.message) from error

    def _admit(self, request: Request) -> Admitted:
        services = services_of(request)
        text = request.query_params.get("capability") if self.in_query else token_of(request)
        if not text:
            raise CapabilityRefused("This address needs a signed capability.")
        grace = 0 if self.in_query else _XET_GRACE_SECONDS
        capability = services.capabilities.verify(text, self.purposes, grace=grace)
        repository = services.repositories.by_id(capability.repository_id)
        actor = ANONYMOUS
        if capability.user_id is not None:
            actor = capability_actor(services.users.by_id(capability.user_id))
        if repository is None:
            raise CapabilityRefused("The repository of this signed address is gone.")
        services.access.require(actor, repository, self.permission)
        return Admitted(actor, repository, capability.subject, capability.size)


def _repository_in(request: Request) -> tuple[RepoKind, RepoId]:
    parameters = request.path_params
    kind = parameters.get("kind") or parameters.get("prefix") or RepoKind.MODEL
    name = str(parameters["name"])
    return kind, RepoId(str(parameters["namespace"]), name)
