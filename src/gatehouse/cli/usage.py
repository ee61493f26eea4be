"""`gatehouse usage`: who ran which model how much."""

import dataclasses
import json
import sys
from datetime import UTC, date, datetime
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from gatehouse.cli.options import DataDir
from gatehouse.cli.repositories import find_model
from gatehouse.cli.workspace import open_workspace
from gatehouse.inference.plans.usage import Figures, Usage, UsageLine

app = typer.Typer()

_NOBODY = "-"
# Columns, where no terminal says how many there are.
_WIDE = 160
_COLUMNS = ("day", "user", "token", "billed to", "model")
# Short, so that a row fits a terminal.
_FIGURES = ("requests", "cached", "tokens in", "tokens out", "seconds")


@app.command("usage")
def usage_command(
    user: Annotated[str | None, typer.Option(help="Of this user only.")] = None,
    model: Annotated[str | None, typer.Option(help="Of this model only.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="From this day on, in UTC."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="As JSON instead of a table, a row a line.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Show requests and tokens by day, user, token, organization billed and model.

    A running server writes them each second.
    """
    with open_workspace(data_dir) as workspace:
        lines = Usage(workspace.database).lines(
            user_id=workspace.users.by_name(user).id if user else None,
            repository_id=find_model(workspace, model).id if model else None,
            since=_day(since),
        )
    if as_json:
        for line in lines:
            typer.echo(json.dumps(_as_json(line)))
    else:
        Console(width=None if sys.stdout.isatty() else _WIDE).print(_table(lines))


def _day(moment: datetime | None) -> date | None:
    return None if moment is None else moment.replace(tzinfo=UTC).date()


def _as_json(line: UsageLine) -> dict[str, object]:
    names = dataclasses.asdict(line)
    figures = names.pop("figures")
    del names["repository_id"]
    return {**names, "day": line.day.isoformat(), **figures}


def _table(lines: list[UsageLine]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name in _COLUMNS:
        table.add_column(name, overflow="fold")
    for name in _FIGURES:
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        names = (line.user, line.token, line.organization, line.model)
        shown = (name or _NOBODY for name in names)
        table.add_row(line.day.isoformat(), *shown, *_figures(line.figures))
    if len(lines) > 1:
        total = sum((line.figures for line in lines), Figures())
        table.add_section()
        table.add_row("total", "", "", "", "", *_figures(total))
    return table


def _figures(figures: Figures) -> tuple[str, ...]:
    return (
        str(figures.num_requests),
        str(figures.num_cached_requests),
        str(figures.num_prompt_tokens),
        str(figures.num_generated_tokens),
        f"{figures.seconds:.1f}",
    )
