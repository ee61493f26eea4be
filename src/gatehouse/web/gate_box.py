"""Where one visitor stands at a repository's gate, for the box on its page."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from markupsafe import Markup

from gatehouse.core.errors import Invalid
from gatehouse.http.context import Services
from gatehouse.identity.actors import Actor
from gatehouse.repos.gate_forms import GateForm, read_gate_form
from gatehouse.repos.gating import AccessRequest
from gatehouse.repos.infos import RepoInfo
from gatehouse.repos.repository import Repository
from gatehouse.web.markdown import render_markdown

_NOTHING = Markup()


class GateState(StrEnum):
    NONE = "none"
    OWNER = "owner"
    ASK = "ask"
    PENDING = "pending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class GateBox:
    """What the box shows.

    Attributes:
        request: The visitor's own request, if they made one.
        prompt_html: The owner's words, sanitised; so is `description_html`.
        error: What was wrong with the answers just sent.
        answers: Those answers, to fill the form again.
    """

    state: GateState
    form: GateForm = field(default_factory=GateForm)
    request: AccessRequest | None = None
    prompt_html: Markup = _NOTHING
    description_html: Markup = _NOTHING
    error: str | None = None
    answers: Mapping[str, object] = field(default_factory=dict)


def gate_box(
    services: Services,
    viewer: Actor,
    repository: Repository,
    info: RepoInfo,
    *,
    error: str | None = None,
    answers: Mapping[str, object] | None = None,
) -> GateBox:
    if not repository.is_gated:
        return GateBox(GateState.NONE)
    if viewer.role_in(repository.owner_id) is not None:
        return GateBox(GateState.OWNER)
    request = services.gating.mine(viewer, repository)
    if request is not None:
        return GateBox(GateState(request.status.value), request=request)
    form = form_of(info)
    return GateBox(
        GateState.ASK,
        form=form,
        prompt_html=render_markdown(form.prompt),
        description_html=render_markdown(form.description),
        error=error,
        answers=answers or {},
    )


def form_of(info: RepoInfo) -> GateForm:
    """The card's form; one that cannot be read asks for nothing but consent."""
    try:
        return read_gate_form(info.metadata)
    except Invalid:
        return GateForm()
