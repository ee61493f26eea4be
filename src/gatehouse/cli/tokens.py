"""`gatehouse token`: access tokens for programs."""

from typing import Annotated

import typer

from gatehouse.cli.options import DataDir
from gatehouse.cli.workspace import open_workspace
from gatehouse.identity.permissions import TokenRole
from gatehouse.observability.audit import OPERATOR

app = typer.Typer(name="token", help="Make access tokens for programs.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Make access tokens, which programs send instead of a password."""


@app.command()
def create(
    user: Annotated[str, typer.Option(help="Whose token it is.")],
    name: Annotated[str, typer.Option(help="What the token is for, such as `laptop`.")],
    role: Annotated[
        TokenRole, typer.Option(help="`read` downloads and runs; `write` also changes.")
    ] = TokenRole.READ,
    data_dir: DataDir = None,
) -> None:
    """Make a token and print it, alone, on standard output. It cannot be shown again."""
    with open_workspace(data_dir) as workspace:
        owner = workspace.users.by_name(user)
        new = workspace.tokens.create(owner.id, name, role, by=OPERATOR)
    typer.echo(f"Created {new.token.role} token `{new.token.name}` of {owner.name}:", err=True)
    typer.echo(new.value)
