"""`gatehouse plan` and `gatehouse usage`, as an administrator types them."""

import json
from datetime import date

import pytest
from factories import Hub
from typer.testing import CliRunner, Result

from gatehouse.cli.main import app
from gatehouse.identity.actors import ANONYMOUS
from gatehouse.identity.plans import PlanName, Plans
from gatehouse.inference.plans.usage import Figures, UsageKey


def run(hub: Hub, *arguments: str) -> Result:
    folder = str(hub.settings.data_dir)
    return CliRunner().invoke(app, [*arguments, "--data-dir", folder], env={"COLUMNS": "200"})


def as_a_worker_sees_them(hub: Hub) -> Plans:
    return Plans(hub.database, hub.clock)


def test_what_is_set_is_listed_and_seen_by_a_worker(hub: Hub) -> None:
    outcome = run(
        hub,
        *("plan", "set", "free", "--requests-per-hour", "7", "--tokens-per-day", "none"),
        *("--concurrent", "2", "--max-new-tokens", "99", "--priority", "5"),
        *("--largest-model-bytes", "123"),
    )
    assert outcome.exit_code == 0
    listed = json.loads(run(hub, "plan", "list", "--json").stdout)
    assert listed["free"] == {
        "requests_per_hour": 7,
        "tokens_per_day": None,
        "num_concurrent": 2,
        "max_new_tokens": 99,
        "priority": 5,
        "largest_model_bytes": 123,
    }
    assert as_a_worker_sees_them(hub).all()[PlanName.FREE].max_new_tokens == 99
    assert "99" in run(hub, "plan", "list").stdout
    assert run(hub, "plan", "reset", "free").exit_code == 0
    assert as_a_worker_sees_them(hub).all()[PlanName.FREE].max_new_tokens == 2048


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["set", "free"], "Nothing to change"),
        (["set", "free", "--tokens-per-day", "many"], "`--tokens-per-day` must be a number or"),
        (["set", "free", "--concurrent", "0"], "`num_concurrent` must be 1 to"),
        (["model", "add", "nobody/nothing"], "nobody/nothing"),
        (["model", "add", "nonsense"], "namespace/name"),
    ],
)
def test_mistakes_end_in_one_sentence(hub: Hub, arguments: list[str], sentence: str) -> None:
    outcome = run(hub, "plan", *arguments)
    assert outcome.exit_code == 2
    assert outcome.stderr.startswith("Error: ")
    assert sentence in outcome.stderr


def test_pro_models_are_chosen_by_name_and_kept_by_id(hub: Hub) -> None:
    ada = hub.make_user("ada")
    model = hub.make_repo(ada, "big")
    assert run(hub, "plan", "model", "add", "ada/big").exit_code == 0
    assert model in hub.services.pro_models
    assert run(hub, "plan", "model", "list").stdout == "ada/big\n"
    assert run(hub, "plan", "model", "remove", "Ada/Big").exit_code == 0
    assert run(hub, "plan", "model", "list").stdout == ""


def test_usage_is_printed_by_user_and_model(hub: Hub) -> None:
    ada, bob = hub.make_user("ada"), hub.make_user("bob")
    model = hub.make_repo(ada, "big")
    day = date(2026, 1, 5)
    hub.services.usage.add(
        {
            UsageKey(day, ada.user.id, 0, 0, model.id): Figures(2, 1, 30, 40, 0.5),
            UsageKey(day, bob.user.id, 0, 0, model.id): Figures(3, 0, 3, 4, 1.5),
        }
    )
    table = run(hub, "usage", "--since", "2026-01-05").stdout
    assert ["ada" in table, "bob" in table, "ada/big" in table] == [True] * 3
    total = next(line for line in table.splitlines() if "total" in line)
    assert total.split() == ["total", "5", "1", "33", "44", "2.0"]
    assert json.loads(run(hub, "usage", "--user", "ada", "--json").stdout) == {
        "day": "2026-01-05",
        "user": "ada",
        "token": None,
        "organization": None,
        "model": "ada/big",
        "num_requests": 2,
        "num_cached_requests": 1,
        "num_prompt_tokens": 30,
        "num_generated_tokens": 40,
        "seconds": 0.5,
    }
    assert run(hub, "usage", "--model", "ada/big", "--since", "2026-01-06", "--json").stdout == ""
    assert run(hub, "usage", "--user", "nobody").exit_code == 2


def test_plans_edited_from_outside_reach_a_running_worker(hub: Hub) -> None:
    plans = Plans(hub.database, hub.clock, max_age_seconds=0.0)
    assert plans.limits_of(ANONYMOUS).num_concurrent == 8
    run(hub, "plan", "set", "anonymous", "--concurrent", "1")
    assert plans.limits_of(ANONYMOUS).num_concurrent == 1
