"""A repository's own page: its card, its gate, and how to use it."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.http.actors import CurrentActor
from gatehouse.http.addresses import base_url
from gatehouse.http.context import Services, ServicesDependency
from gatehouse.http.gates import RepoGate
from gatehouse.identity.actors import Actor
from gatehouse.identity.permissions import Permission
from gatehouse.repos.infos import RepoInfo
from gatehouse.repos.repository import Repository
from gatehouse.web.card_links import CardLinks
from gatehouse.web.gate_box import gate_box
from gatehouse.web.markdown import render_markdown
from gatehouse.web.page_route import page_router
from gatehouse.web.repository_pages import DEFAULT_REVISION, render_repository, root_of
from gatehouse.web.snippets import snippets_for

_MAX_TAGS = 40
_FACTS = (
    ("Task", "pipeline_tag"),
    ("Library", "library_name"),
    ("Licence", "license"),
    ("Language", "language"),
    ("Base model", "base_model"),
    ("Trained on", "datasets"),
    ("Metrics", "metrics"),
)
_SHOWN_PER_FACT = 8

router = page_router()

_Known = Annotated[Repository, Depends(RepoGate(Permission.REPO_METADATA))]


@router.get("/{prefix:prefix}{namespace:name}/{name:name}")
def card_page(
    request: Request, repository: _Known, viewer: CurrentActor, services: ServicesDependency
) -> Response:
    return draw_card(request, services, viewer, repository)


def draw_card(
    request: Request,
    services: Services,
    viewer: Actor,
    repository: Repository,
    *,
    error: str | None = None,
    answers: Mapping[str, object] | None = None,
    status: int = 200,
) -> Response:
    """The page; `error` and `answers` are those of a gate form that was just refused."""
    commit_oid = services.files.commit_oid(repository, DEFAULT_REVISION)
    info = services.infos.at(repository, commit_oid)
    links = CardLinks(root_of(repository), DEFAULT_REVISION)
    return render_repository(
        request,
        "card.html",
        viewer,
        repository,
        "card",
        status_code=status,
        gate=gate_box(services, viewer, repository, info, error=error, answers=answers),
        card_html=render_markdown(info.readme, links) if info.readme else None,
        tags=info.tags[:_MAX_TAGS],
        facts=_facts(info),
        num_files=len(info.files),
        total_size=sum(file.size for file in info.files),
        snippets=snippets_for(repository, info, base_url(request)),
    )


def _facts(info: RepoInfo) -> list[tuple[str, str]]:
    inferred = {"pipeline_tag": info.task, "library_name": info.library}
    found = []
    for label, key in _FACTS:
        value = info.metadata.get(key) or inferred.get(key)
        values = value if isinstance(value, list) else [value]
        texts = [str(item) for item in values if isinstance(item, str | int | float)]
        if texts:
            more = ", …" if len(texts) > _SHOWN_PER_FACT else ""
            found.append((label, ", ".join(texts[:_SHOWN_PER_FACT]) + more))
    return found
