"""`gatehouse org`: names that several users own repositories under."""

from typing import Annotated

import typer

from gatehouse.cli.options import DataDir
from gatehouse.cli.workspace import open_workspace
from gatehouse.identity.actors import OrganizationRole
from gatehouse.observability.audit import OPERATOR

app = typer.Typer(name="org", help="Add organizations and their members.", no_args_is_help=True)

OrganizationName = Annotated[str, typer.Argument(metavar="NAME", help="The organization's name.")]
UserOption = Annotated[str, typer.Option("--user", help="Name of the user.")]


@app.command()
def create(
    name: OrganizationName,
    owner: Annotated[str, typer.Option(help="User who will administer it.")],
    fullname: Annotated[str, typer.Option(help="Name as shown on pages.")] = "",
    data_dir: DataDir = None,
) -> None:
    """Add an organization, so that repositories may be called NAME/something."""
    with open_workspace(data_dir) as workspace:
        user = workspace.users.by_name(owner)
        made = workspace.organizations.create(name, fullname, user, by=OPERATOR)
    typer.echo(f"Created organization {made.name}, administered by {user.name}.", err=True)


@app.command()
def add(
    name: OrganizationName,
    user: UserOption,
    role: Annotated[
        OrganizationRole, typer.Option(help="What they may do with its repositories.")
    ] = OrganizationRole.READ,
    data_dir: DataDir = None,
) -> None:
    """Let a user into an organization."""
    with open_workspace(data_dir) as workspace:
        member = workspace.users.by_name(user)
        workspace.organizations.add_member(name, member, role, by=OPERATOR)
    typer.echo(f"{member.name} is in {name} now ({role}).", err=True)


@app.command()
def remove(name: OrganizationName, user: UserOption, data_dir: DataDir = None) -> None:
    """Take a user out of an organization."""
    with open_workspace(data_dir) as workspace:
        member = workspace.users.by_name(user)
        workspace.organizations.remove_member(name, member, by=OPERATOR)
    typer.echo(f"{member.name} is no longer in {name}.", err=True)
