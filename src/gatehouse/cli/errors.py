"""How a command ends when something is wrong: one sentence on standard error, exit code 2."""

from typing import Any

import typer
from typer.core import TyperGroup

from gatehouse.core.errors import GatehouseError


class Commands(TyperGroup):
    """Ends so for the errors that are meant for the caller; others keep their traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except GatehouseError as error:
            typer.echo(f"Error: {error.message}", err=True)
            raise typer.Exit(2) from None
