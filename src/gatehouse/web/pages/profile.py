"""The page of a user or an organisation: what they own, as far as the visitor may know of it."""

from typing import Annotated

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.core.ids import RepoKind
from gatehouse.http.context import Services, ServicesDependency
from gatehouse.http.gates import PublicGate
from gatehouse.identity.accounts import Account, AccountKind
from gatehouse.identity.actors import Actor
from gatehouse.identity.users import UserNotFound
from gatehouse.web.page_route import page_router
from gatehouse.web.render import render

_NUM_LISTED = 100

router = page_router()

_Visitor = Annotated[Actor, Depends(PublicGate("names are public; lists hold what may be known"))]


@router.get("/{namespace:name}")
def profile(
    request: Request, namespace: str, viewer: _Visitor, services: ServicesDependency
) -> Response:
    account = _find(services, namespace)
    groups = [
        (
            kind,
            kind.plural.capitalize(),
            services.repositories.list_visible(viewer, kind, account.name, limit=_NUM_LISTED),
        )
        for kind in RepoKind
    ]
    is_self = viewer.user is not None and viewer.user.id == account.id
    return render(request, "profile.html", viewer, account=account, groups=groups, is_self=is_self)


def _find(services: Services, name: str) -> Account:
    """The user of this name, else the organisation.

    Raises:
        OrganizationNotFound: Nobody is called so.
    """
    try:
        user = services.users.by_name(name)
    except UserNotFound:
        found = services.organizations.by_name(name)
        return Account(found.id, found.name, AccountKind.ORGANIZATION, found.fullname)
    return Account(user.id, user.name, AccountKind.USER, user.fullname)
