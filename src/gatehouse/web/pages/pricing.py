"""What each plan allows: where refusals of the inference routes send their reader."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from gatehouse.http.context import ServicesDependency
from gatehouse.http.gates import PublicGate
from gatehouse.identity.actors import Actor
from gatehouse.identity.plans import PlanLimits, PlanName, plan_of
from gatehouse.web.formats import human_count, human_size
from gatehouse.web.page_route import page_router
from gatehouse.web.render import render

router = page_router()

_Visitor = Annotated[Actor, Depends(PublicGate("the plans are the same for everybody"))]
_UNLIMITED = "no limit"
_TITLES = {
    PlanName.ANONYMOUS: "Not signed in",
    PlanName.FREE: "Free",
    PlanName.PRO: "PRO",
    PlanName.ENTERPRISE: "Enterprise",
}
_ROWS: tuple[tuple[str, Callable[[PlanLimits], int | None], Callable[[int], str]], ...] = (
    ("Requests per hour", lambda limits: limits.requests_per_hour, human_count),
    ("Generated tokens per day", lambda limits: limits.tokens_per_day, human_count),
    ("Requests at once", lambda limits: limits.num_concurrent, human_count),
    ("Tokens of one request", lambda limits: limits.max_new_tokens, human_count),
    ("Largest model", lambda limits: limits.largest_model_bytes, human_size),
)


@router.get("/pricing")
def pricing(request: Request, viewer: _Visitor, services: ServicesDependency) -> Response:
    plans = services.plans.all()
    shown = [
        plan
        for plan in PlanName
        if plan is not PlanName.ANONYMOUS or services.settings.allow_anonymous_inference
    ]
    rows = [
        (title, [_cell(limit(plans[plan]), written) for plan in shown])
        for title, limit, written in _ROWS
    ]
    rows.append(("PRO models", ["yes" if plan.is_paying else "no" for plan in shown]))
    return render(
        request,
        "pricing.html",
        viewer,
        plans=[(_TITLES[plan], plan is plan_of(viewer)) for plan in shown],
        rows=rows,
    )


def _cell(value: int | None, written: Callable[[int], str]) -> str:
    return _UNLIMITED if value is None else written(value)
