"""The gate from both sides: ask for access; for owners, decide on requests."""

from typing import Annotated

from fastapi import Depends, Form
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gatehouse.core.clock import to_wire
from gatehouse.core.errors import Conflict, Invalid, NotFound
from gatehouse.http.actors import CurrentActor
from gatehouse.http.context import Services, ServicesDependency
from gatehouse.http.csrf import CsrfDependency, check_csrf
from gatehouse.http.gates import RepoGate
from gatehouse.identity.actors import Actor
from gatehouse.identity.permissions import Permission
from gatehouse.repos.gate_forms import InvalidGateAnswer, check_gate_answers
from gatehouse.repos.gating import RequestStatus
from gatehouse.repos.repository import Repository
from gatehouse.web.gate_answers import GateAnswers
from gatehouse.web.gate_box import form_of
from gatehouse.web.page_route import page_router
from gatehouse.web.pages.cards import draw_card
from gatehouse.web.render import see_other
from gatehouse.web.repository_pages import DEFAULT_REVISION, render_repository, root_of

router = page_router()

_REPO = "/{prefix:prefix}{namespace:name}/{name:name}"
_LABELS = (
    (RequestStatus.PENDING, "Pending"),
    (RequestStatus.ACCEPTED, "Accepted"),
    (RequestStatus.REJECTED, "Rejected"),
)
_NOTICES = {
    RequestStatus.PENDING: "request-cancelled",
    RequestStatus.ACCEPTED: "request-accepted",
    RequestStatus.REJECTED: "request-rejected",
}

_Asked = Annotated[Repository, Depends(RepoGate(Permission.GATE_ASK))]
_Owned = Annotated[Repository, Depends(RepoGate(Permission.REPO_ADMIN))]


@router.post(_REPO + "/ask-access")
def ask_access(
    request: Request,
    repository: _Asked,
    viewer: CurrentActor,
    services: ServicesDependency,
    given: GateAnswers,
) -> Response:
    """For the form on the page, which is sent back there, and for programs, which get JSON."""
    if viewer.session_id is not None and not given.is_json:
        check_csrf(request, given.csrf_token)
    commit_oid = services.files.commit_oid(repository, DEFAULT_REVISION)
    form = form_of(services.infos.at(repository, commit_oid))
    try:
        answers = check_gate_answers(form, given.answers)
    except InvalidGateAnswer as error:
        if not given.wants_page:
            raise
        message = error.message
        return draw_card(
            request,
            services,
            viewer,
            repository,
            error=message,
            answers=given.answers,
            status=400,
        )
    made = services.gating.ask(viewer, repository, answers)
    if given.wants_page:
        is_in = made.status is RequestStatus.ACCEPTED
        return see_other(root_of(repository), "access-granted" if is_in else "access-asked")
    return JSONResponse({"status": made.status.value, "timestamp": to_wire(made.created_at)})


@router.get(_REPO + "/settings/access")
def requests_page(
    request: Request,
    repository: _Owned,
    viewer: CurrentActor,
    services: ServicesDependency,
    status: RequestStatus = RequestStatus.PENDING,
) -> Response:
    return _draw(request, services, viewer, repository, status)


@router.post(_REPO + "/settings/access/grant", dependencies=[CsrfDependency])
def grant(
    request: Request,
    repository: _Owned,
    viewer: CurrentActor,
    services: ServicesDependency,
    user: Annotated[str, Form()] = "",
) -> Response:
    try:
        services.gating.grant(viewer, repository, user.strip())
    except (Invalid, NotFound) as error:
        status = 404 if isinstance(error, NotFound) else 400
        return _draw(
            request, services, viewer, repository, RequestStatus.ACCEPTED, error.message, status
        )
    return see_other(f"{root_of(repository)}/settings/access", "user-granted")


@router.post(_REPO + "/settings/access/{request_id:int}", dependencies=[CsrfDependency])
def decide(
    request: Request,
    request_id: int,
    repository: _Owned,
    viewer: CurrentActor,
    services: ServicesDependency,
    decision: Annotated[RequestStatus, Form()],
    reason: Annotated[str, Form()] = "",
    from_status: Annotated[RequestStatus, Form()] = RequestStatus.PENDING,
) -> Response:
    is_rejection = decision is RequestStatus.REJECTED
    try:
        services.gating.handle(
            viewer,
            repository,
            decision,
            request_id=request_id,
            reason=reason.strip() or None if is_rejection else None,
        )
    except (Conflict, Invalid) as error:
        status = 409 if isinstance(error, Conflict) else 400
        return _draw(request, services, viewer, repository, from_status, error.message, status)
    return see_other(f"{root_of(repository)}/settings/access", _NOTICES[decision])


def _draw(
    request: Request,
    services: Services,
    viewer: Actor,
    repository: Repository,
    shown: RequestStatus,
    error: str | None = None,
    status: int = 200,
) -> Response:
    by_status = {state: services.gating.list(repository, state) for state, _ in _LABELS}
    return render_repository(
        request,
        "access.html",
        viewer,
        repository,
        "access",
        status_code=status,
        status=shown.value,
        requests=by_status[shown],
        lists=[(state.value, label, len(by_status[state])) for state, label in _LABELS],
        error=error,
    )
