"""`gatehouse plan`: what each plan allows, and which models are for paying plans only."""

import dataclasses
import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gatehouse.cli.options import DataDir
from gatehouse.cli.repositories import find_model, open_repositories
from gatehouse.cli.workspace import Workspace, open_workspace
from gatehouse.core.clock import SystemClock
from gatehouse.core.errors import Invalid
from gatehouse.identity.plans import PlanName, Plans, default_plans
from gatehouse.inference.plans.pro_models import ProModels
from gatehouse.observability.audit import OPERATOR

app = typer.Typer(name="plan", help="Show and change what plans allow.", no_args_is_help=True)
model_app = typer.Typer(
    name="model", help="Choose the models that only PRO users may run.", no_args_is_help=True
)
app.add_typer(model_app)

_NONE = "none"

PlanArgument = Annotated[PlanName, typer.Argument(metavar="PLAN", help="Which plan.")]
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="As `namespace/name`.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON instead of a table.")]


class NotANumber(Invalid):
    def __init__(self, option: str, text: str) -> None:
        super().__init__(f"`{option}` must be a number or `{_NONE}`. Given: `{text}`")


@app.command("list")
def list_plans(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Show every plan."""
    with open_workspace(data_dir) as workspace:
        plans = {plan.value: dataclasses.asdict(p) for plan, p in _plans(workspace).all().items()}
    if as_json:
        typer.echo(json.dumps(plans, indent=2))
        return
    table = Table("limit", *plans)
    for name in next(iter(plans.values())):
        table.add_row(name, *(_shown(limits[name]) for limits in plans.values()))
    Console().print(table)


@app.command("set")
def set_limits(
    plan: PlanArgument,
    requests_per_hour: Annotated[
        int | None, typer.Option(help="Requests in a window of an hour.")
    ] = None,
    tokens_per_day: Annotated[
        str | None, typer.Option(help="Generated tokens in a window of a day, or `none`.")
    ] = None,
    concurrent: Annotated[int | None, typer.Option(help="Requests under way at once.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Tokens of one request.")] = None,
    priority: Annotated[
        int | None, typer.Option(help="Waiting requests of a lower number go first.")
    ] = None,
    largest_model_bytes: Annotated[
        str | None, typer.Option(help="Weights of the largest model it may run, or `none`.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Change some limits of a plan. A running server follows within a few seconds."""
    numbers = {
        "requests_per_hour": requests_per_hour,
        "num_concurrent": concurrent,
        "max_new_tokens": max_new_tokens,
        "priority": priority,
    }
    texts = {"tokens_per_day": tokens_per_day, "largest_model_bytes": largest_model_bytes}
    changes: dict[str, int | None] = {
        name: value for name, value in numbers.items() if value is not None
    }
    changes |= {name: _number(name, text) for name, text in texts.items() if text is not None}
    if not changes:
        raise Invalid("Nothing to change: give at least one limit. See --help.")
    with open_workspace(data_dir) as workspace:
        _plans(workspace).set(plan, changes, by=OPERATOR)
    told = ", ".join(f"{name} {_shown(value)}" for name, value in changes.items())
    typer.echo(f"The {plan} plan has now: {told}.", err=True)


@app.command()
def reset(plan: PlanArgument, data_dir: DataDir = None) -> None:
    """Give a plan its default limits back."""
    with open_workspace(data_dir) as workspace:
        _plans(workspace).reset(plan, by=OPERATOR)
    typer.echo(f"The {plan} plan has its default limits now.", err=True)


@model_app.command("add")
def add_model(model: ModelArgument, data_dir: DataDir = None) -> None:
    """Let only PRO and enterprise users run a model, whatever it is called later."""
    with open_workspace(data_dir) as workspace:
        repository = find_model(workspace, model)
        _pro_models(workspace).add(repository, by=OPERATOR)
    typer.echo(f"Only PRO and enterprise users may run {repository.repo_id} now.", err=True)


@model_app.command("remove")
def remove_model(model: ModelArgument, data_dir: DataDir = None) -> None:
    """Let every plan run a model."""
    with open_workspace(data_dir) as workspace:
        repository = find_model(workspace, model)
        _pro_models(workspace).remove(repository, by=OPERATOR)
    typer.echo(f"Every plan may run {repository.repo_id} now.", err=True)


@model_app.command("list")
def list_models(data_dir: DataDir = None) -> None:
    """Show the models that only PRO and enterprise users may run, one a line."""
    with open_workspace(data_dir) as workspace:
        repositories = open_repositories(workspace)
        found = [repositories.by_id(number) for number in _pro_models(workspace).ids()]
    for name in sorted(str(repository.repo_id) for repository in found if repository):
        typer.echo(name)


def _plans(workspace: Workspace) -> Plans:
    return Plans(workspace.database, SystemClock(), default_plans(workspace.settings))


def _pro_models(workspace: Workspace) -> ProModels:
    return ProModels(workspace.database, SystemClock())


def _number(name: str, text: str) -> int | None:
    if text == _NONE:
        return None
    try:
        return int(text)
    except ValueError:
        raise NotANumber(f"--{name.replace('_', '-')}", text) from None


def _shown(value: int | None) -> str:
    return _NONE if value is None else str(value)
