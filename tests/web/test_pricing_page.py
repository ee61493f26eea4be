from pathlib import Path

from factories import Hub
from visitor import Visitor

from gatehouse.identity.plans import PlanName
from gatehouse.observability.audit import OPERATOR


def test_plans_are_shown_as_the_administrator_set_them(hub: Hub) -> None:
    hub.services.plans.set(
        PlanName.FREE, {"requests_per_hour": 4321, "tokens_per_day": None}, by=OPERATOR
    )
    page = Visitor(hub).get("/pricing")
    assert page.status == 200
    for text in ("4.3k", "no limit", "10 GB", "Not signed in", "(you)"):
        assert text in page.html


def test_the_column_for_strangers_is_there_only_if_they_may_run_anything(
    tmp_path: Path, migrated_database: Path
) -> None:
    hub = Hub(tmp_path / "closed", migrated_database, allow_anonymous_inference=False)
    assert "Not signed in" not in Visitor(hub).get("/pricing").html
    hub.close()
