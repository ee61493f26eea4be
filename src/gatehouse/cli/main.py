"""The `gatehouse` command. Knows where each command is, and imports the one that is asked for."""

from importlib import import_module
from typing import Any, cast

import typer
from typer.core import TyperGroup

from gatehouse.cli.errors import Commands

# `serve` and `demo` bring the whole server along, which takes longer than any other command.
_MODULES = {
    "serve": "gatehouse.cli.serve",
    "demo": "gatehouse.cli.demo",
    "user": "gatehouse.cli.users",
    "token": "gatehouse.cli.tokens",
    "org": "gatehouse.cli.organizations",
    "plan": "gatehouse.cli.plans",
    "usage": "gatehouse.cli.usage",
    "model": "gatehouse.cli.models",
    "remote": "gatehouse.cli.remote",
    "env": "gatehouse.cli.env",
}


class LazyCommands(Commands):
    """Finds in the module of each command an `app` that has it."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        # What nobody has ends in an error that suggests the nearest of all names.
        for name in [cmd_name] if cmd_name in _MODULES else _MODULES:
            if name not in self.commands:
                self.commands[name] = self._load(name)
        return super().get_command(ctx, cmd_name)

    def _load(self, name: str) -> Any:
        loaded = typer.Typer(add_completion=False, rich_markup_mode=self.rich_markup_mode)
        loaded.callback()(lambda: None)
        loaded.add_typer(import_module(_MODULES[name]).app)
        return cast("TyperGroup", typer.main.get_command(loaded)).commands[name]


app = typer.Typer(
    name="gatehouse",
    cls=LazyCommands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


@app.callback()
def gatehouse() -> None:
    """Your own model hub: gated repositories, access tokens and inference.

    Start it with `gatehouse serve`, add people with `gatehouse user create`, and give programs a
    token with `gatehouse token create`. The Hugging Face clients then work with HF_ENDPOINT set to
    this server's address and HF_TOKEN set to the token.

    Commands for users, tokens, organizations and plans work whether or not the server is running.
    """
