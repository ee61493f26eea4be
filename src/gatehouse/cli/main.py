"""The `gatehouse` command."""

import typer

from gatehouse.cli import organizations, tokens, users
from gatehouse.cli.demo import demo_command
from gatehouse.cli.errors import Commands
from gatehouse.cli.serve import serve_command

app = typer.Typer(
    name="gatehouse",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command("serve")(serve_command)
app.command("demo")(demo_command)
app.add_typer(users.app, name="user", help="Add users, change their plan or password.")
app.add_typer(tokens.app, name="token", help="Make access tokens for programs.")
app.add_typer(organizations.app, name="org", help="Add organizations and their members.")


@app.callback()
def gatehouse() -> None:
    """Your own model hub: gated repositories, access tokens and inference.

    Start it with `gatehouse serve`, add people with `gatehouse user create`, and give programs a
    token with `gatehouse token create`. The Hugging Face clients then work with HF_ENDPOINT set to
    this server's address and HF_TOKEN set to the token.

    Commands for users, tokens and organizations work whether or not the server is running.
    """
