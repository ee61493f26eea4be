"""`gatehouse user`: people who can sign in."""

from typing import Annotated

import typer

from gatehouse.cli.options import DataDir
from gatehouse.cli.passwords import read_password
from gatehouse.cli.workspace import open_workspace
from gatehouse.identity.actors import Plan
from gatehouse.observability.audit import OPERATOR

app = typer.Typer(
    name="user", help="Add users, change their plan or password.", no_args_is_help=True
)

UserName = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]
FromStdin = Annotated[
    bool,
    typer.Option(
        "--password-stdin", help="Read the password from the first line of standard input."
    ),
]


@app.command()
def create(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="What stands before the slash in repository names."),
    ],
    email: Annotated[str, typer.Option(help="Address; the user may sign in with it too.")],
    fullname: Annotated[str, typer.Option(help="Name as shown on pages.")] = "",
    admin: Annotated[bool, typer.Option("--admin", help="May administer everything.")] = False,
    plan: Annotated[Plan, typer.Option(help="Sets the inference limits.")] = Plan.FREE,
    password_stdin: FromStdin = False,
    data_dir: DataDir = None,
) -> None:
    """Add a user; asks for the password unless it comes with --password-stdin."""
    password = read_password(from_stdin=password_stdin)
    with open_workspace(data_dir) as workspace:
        user = workspace.users.create(
            name, email, password, fullname, is_admin=admin, plan=plan, by=OPERATOR
        )
    typer.echo(f"Created user {user.name} on the {user.plan} plan.", err=True)


@app.command()
def plan(
    name: UserName,
    plan: Annotated[Plan, typer.Argument(help="The new plan.")],
    data_dir: DataDir = None,
) -> None:
    """Put a user on another plan, which sets their inference limits."""
    with open_workspace(data_dir) as workspace:
        user = workspace.users.set_plan(workspace.users.by_name(name).id, plan, by=OPERATOR)
    typer.echo(f"{user.name} is on the {user.plan} plan now.", err=True)


@app.command()
def password(name: UserName, password_stdin: FromStdin = False, data_dir: DataDir = None) -> None:
    """Give a user a new password and end their sessions; access tokens keep working."""
    new = read_password(from_stdin=password_stdin)
    with open_workspace(data_dir) as workspace:
        user = workspace.users.by_name(name)
        workspace.users.set_password(user.id, new, by=OPERATOR)
    typer.echo(f"{user.name} has a new password and is signed out everywhere.", err=True)
