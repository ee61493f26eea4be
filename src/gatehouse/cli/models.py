"""`gatehouse model`: which models are kept in memory, and how single ones are run."""

from typing import Annotated

import msgspec
import typer

from gatehouse.cli.options import DataDir
from gatehouse.cli.repositories import find_model, open_repositories
from gatehouse.cli.workspace import open_workspace
from gatehouse.core.clock import SystemClock
from gatehouse.core.errors import Invalid, NotFound
from gatehouse.engines.base import EngineOptions, Precision, RunnerName, Speculation, WeightFormat
from gatehouse.inference.lifecycle.model_options import ModelOptions
from gatehouse.inference.lifecycle.pinned_models import PinnedModels
from gatehouse.observability.audit import OPERATOR

app = typer.Typer(
    name="model", help="Keep models in memory, and say how they are run.", no_args_is_help=True
)

_MAIN = "main"

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="As `namespace/name` or `namespace/name@revision`.")
]
RepositoryArgument = Annotated[str, typer.Argument(metavar="MODEL", help="As `namespace/name`.")]


class OptionsInvalid(Invalid):
    def __init__(self) -> None:
        super().__init__(
            "With the runner `transformers`, `--precision` and `--weights` can only be `stored`, "
            "and `--speculation` only `off`."
        )


class SpeculationInvalid(Invalid):
    def __init__(self) -> None:
        super().__init__("With the runner `vllm`, `--speculation` can only be `off`.")


class NotPinned(NotFound):
    def __init__(self, name: str, revision: str) -> None:
        super().__init__(f"{name} is not pinned at `{revision}`. See `gatehouse model list`.")


@app.command()
def pin(model: ModelArgument, data_dir: DataDir = None) -> None:
    """Load a model with the server, and never unload it. A running server follows in seconds.

    Without a revision it is the main branch, as it is at each moment.
    """
    name, revision = _split(model)
    with open_workspace(data_dir) as workspace:
        repository = find_model(workspace, name)
        git = open_repositories(workspace).git(repository)
        if git.resolve(revision) is None:
            raise NotFound(f"{repository.repo_id} has no branch, tag or commit `{revision}`.")
        pins = PinnedModels(workspace.database, SystemClock())
        pins.add(repository, revision, by=OPERATOR)
    typer.echo(f"{repository.repo_id} is kept in memory, as of `{revision}`.", err=True)


@app.command()
def unpin(model: ModelArgument, data_dir: DataDir = None) -> None:
    """Let a model be unloaded again when it is idle."""
    name, revision = _split(model)
    with open_workspace(data_dir) as workspace:
        repository = find_model(workspace, name)
        pins = PinnedModels(workspace.database, SystemClock())
        if not pins.remove(repository, revision, by=OPERATOR):
            raise NotPinned(str(repository.repo_id), revision)
    typer.echo(f"{repository.repo_id} is no longer pinned.", err=True)


@app.command("set")
def set_options(
    model: RepositoryArgument,
    runner: Annotated[RunnerName | None, typer.Option(help="What runs it.")] = None,
    precision: Annotated[Precision | None, typer.Option(help="What it is computed in.")] = None,
    weights: Annotated[WeightFormat | None, typer.Option(help="What weights are kept in.")] = None,
    speculation: Annotated[
        Speculation | None, typer.Option(help="How tokens are guessed before they are computed.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Say how a model of text is run, from its next request on, and print it.

    The usual is `auto`, `stored`, `stored` and `off`.
    """
    given = {
        "runner": runner,
        "precision": precision,
        "weight_format": weights,
        "speculation": speculation,
    }
    with open_workspace(data_dir) as workspace:
        repository = find_model(workspace, model)
        kept = ModelOptions(workspace.database, SystemClock())
        changes = {name: value for name, value in given.items() if value is not None}
        options = msgspec.structs.replace(kept.of(repository), **changes)
        is_plain = options == EngineOptions(options.runner)
        if options.runner is RunnerName.TRANSFORMERS and not is_plain:
            raise OptionsInvalid
        if options.runner is RunnerName.VLLM and options.speculation is not Speculation.OFF:
            raise SpeculationInvalid
        if changes:
            kept.set(repository, options, by=OPERATOR)
    typer.echo(f"runner {options.runner}")
    typer.echo(f"precision {options.precision}")
    typer.echo(f"weights {options.weight_format}")
    typer.echo(f"speculation {options.speculation}")


@app.command("list")
def list_pinned(data_dir: DataDir = None) -> None:
    """Print the pinned models, one a line."""
    with open_workspace(data_dir) as workspace:
        repositories = open_repositories(workspace)
        for pinned in PinnedModels(workspace.database, SystemClock()).all():
            repository = repositories.by_id(pinned.repository_id)
            if repository is not None:
                typer.echo(f"{repository.repo_id}@{pinned.revision}")


def _split(model: str) -> tuple[str, str]:
    name, _, revision = model.partition("@")
    return name, revision or _MAIN
