"""The gates of routes that run a model: named by the path, by the body, or by the settings.

Each asks `Repositories.require`, as every other gate does; what differs is where the name stands,
and that a model that is not there and one that may not be seen are refused in the same bytes.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from anyio.to_thread import run_sync
from starlette.requests import Request

from gatehouse.core.errors import Invalid, NotFound
from gatehouse.core.ids import RepoId, RepoKind
from gatehouse.http.actors import CurrentActor
from gatehouse.http.context import Services, services_of
from gatehouse.http.gates import RepoGate, RouteGate
from gatehouse.http.json_bodies import json_object_of
from gatehouse.http.raw_path import decoded
from gatehouse.identity.actors import Actor
from gatehouse.identity.permissions import Permission
from gatehouse.repos.access import LoginRequired
from gatehouse.repos.errors import RepoMoved, RepoNotFound
from gatehouse.repos.repository import Repository

MAIN = "main"
# Clients add how a model is to be routed: `:fastest`, `:hf-inference`.
_NAME = re.compile(
    r"(?P<namespace>[\w.\-]+)/(?P<name>[\w.\-]+)(?:@(?P<revision>[^:@\s]{1,200}))?(?::[\w.\-]+)?",
    re.ASCII,
)
# What clients write that think of a server with one model.
_NO_NAMES = frozenset({"", "tgi", "dummy", "default"})
_SHOWN = 200


class ModelNotFound(NotFound):
    """There is no such model, or this caller may not know of it."""

    code = RepoNotFound.code

    def __init__(self, name: str) -> None:
        super().__init__(f"Model {name[:_SHOWN]} does not exist")


class ModelNotNamed(Invalid):
    """The request does not say which model it is for."""


class NoDefaultModel(NotFound):
    """The server has no model for routes that name none."""

    def __init__(self) -> None:
        super().__init__(
            "This server has no default model: name one in the address, as in `/models/{id}`."
        )


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model that the caller may run. `revision` is what they named, or the main branch."""

    repository: Repository
    revision: str = MAIN

    @property
    def name(self) -> str:
        return str(self.repository.repo_id)


@dataclass(frozen=True)
class ModelGate(RepoGate):
    """`RepoGate` for a model in the path, in the words of inference."""

    permission: Permission = Permission.INFERENCE_RUN

    async def __call__(self, request: Request, actor: CurrentActor) -> Repository:
        parameters = request.path_params
        repo_id = RepoId(str(parameters["namespace"]), str(parameters["name"]))
        return await _passed(services_of(request), actor, repo_id, self.permission, str(repo_id))


@dataclass(frozen=True)
class NamedModelGate(RouteGate):
    """The route is about the model whose name `find_name` finds in the request."""

    find_name: Callable[[Request], Awaitable[str]]
    permission: Permission = Permission.INFERENCE_RUN

    async def __call__(self, request: Request, actor: CurrentActor) -> NamedModel:
        text = await self.find_name(request)
        return await named_model(services_of(request), actor, text, self.permission)


async def named_model(
    services: Services,
    actor: Actor,
    text: str,
    permission: Permission = Permission.INFERENCE_RUN,
) -> NamedModel:
    """The model that `text` names, once the actor passed its gate.

    Raises:
        GatehouseError: See `Access.require`; what may not be known of is a `ModelNotFound`.
    """
    found = _NAME.fullmatch(text)
    if found is None:
        raise ModelNotFound(text)
    repo_id = RepoId(found["namespace"], found["name"])
    repository = await _passed(services, actor, repo_id, permission, text)
    return NamedModel(repository, found["revision"] or MAIN)


async def name_in_body(request: Request) -> str:
    """The body's `model`; what means no model in particular is the default model, if there is one.

    Raises:
        ModelNotNamed: There is neither.
    """
    name = (await json_object_of(request)).get("model")
    default = services_of(request).settings.default_model
    is_none = name is None or (isinstance(name, str) and name in _NO_NAMES)
    if is_none and default is not None:
        return default
    if not isinstance(name, str) or not name:
        raise ModelNotNamed("`model` must be a string that names a model, such as `org/name`.")
    return name


async def name_in_path(request: Request) -> str:
    """All that the route calls `rest`; the slash may have come encoded."""
    return decoded(str(request.path_params["rest"]))


def require_name(request: Request, repository: Repository) -> None:
    """Refuse a route below a model whose `rest` names another one.

    Raises:
        ModelNotFound: It does.
    """
    text, parameters = decoded(str(request.path_params["rest"])), request.path_params
    found = _NAME.fullmatch(text)
    named = found and f"{found['namespace']}/{found['name']}".casefold()
    # A model that was renamed is found under its old name too.
    in_path = f"{parameters['namespace']}/{parameters['name']}"
    if named not in (in_path.casefold(), str(repository.repo_id).casefold()):
        raise ModelNotFound(text)


async def default_name(request: Request) -> str:
    """The default model of this server.

    Raises:
        NoDefaultModel: The settings name none.
    """
    name = services_of(request).settings.default_model
    if name is None:
        raise NoDefaultModel
    return name


async def _passed(
    services: Services, actor: Actor, repo_id: RepoId, permission: Permission, text: str
) -> Repository:
    """`_require`, in a thread if it has to wait for the database."""
    known = services.repositories.remembered(actor, RepoKind.MODEL, repo_id, permission)
    if known is not None:
        return known
    return await run_sync(_require, services, actor, repo_id, permission, text)


def _require(
    services: Services, actor: Actor, repo_id: RepoId, permission: Permission, text: str
) -> Repository:
    """The repository, under whichever name it has now: few clients repeat a POST elsewhere.

    Raises:
        ModelNotFound: In the caller's own words, whatever the reason.
        GatehouseError: See `Access.require`.
    """
    require = services.repositories.require
    try:
        try:
            return require(actor, RepoKind.MODEL, repo_id, permission)
        except RepoMoved as moved:
            return require(actor, RepoKind.MODEL, moved.new, permission)
    except (RepoNotFound, LoginRequired) as error:
        if error.code != RepoNotFound.code:
            raise
        raise ModelNotFound(text) from None
