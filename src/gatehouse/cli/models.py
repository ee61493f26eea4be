"""`gatehouse model`: which models are kept in memory."""

from typing import Annotated

import typer

from gatehouse.cli.options import DataDir
from gatehouse.cli.repositories import find_model, open_repositories
from gatehouse.cli.workspace import open_workspace
from gatehouse.core.clock import SystemClock
from gatehouse.core.errors import NotFound
from gatehouse.inference.lifecycle.pinned_models import PinnedModels
from gatehouse.observability.audit import OPERATOR

app = typer.Typer(name="model", help="Keep models in memory.", no_args_is_help=True)

_MAIN = "main"

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="As `namespace/name` or `namespace/name@revision`.")
]


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
