"""All pages, in the order in which their addresses are tried: fixed words before names."""

from fastapi import APIRouter

from gatehouse.web.page_route import page_router
from gatehouse.web.pages import (
    access_requests,
    accounts,
    cards,
    device,
    files,
    home,
    new_repository,
    password,
    pricing,
    profile,
    repository_settings,
    tokens,
)

_GROUPS = (
    home,
    accounts,
    tokens,
    password,
    device,
    pricing,
    new_repository,
    access_requests,
    repository_settings,
    files,
    cards,
    profile,
)


def pages_router() -> APIRouter:
    """Include it last: its final routes match any one or two words."""
    router = page_router()
    for group in _GROUPS:
        router.include_router(group.router)
    return router
