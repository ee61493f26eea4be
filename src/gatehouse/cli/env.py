"""`gatehouse env`: what to set so that a program reaches this hub unchanged."""

from pathlib import Path
from typing import Annotated

import typer

from gatehouse.cli.options import DataDir
from gatehouse.cli.workspace import make_data_dir, read_settings
from gatehouse.core.errors import Invalid
from gatehouse.core.settings import Settings, split_names
from gatehouse.server.drop_in.authority import CertificateAuthority
from gatehouse.server.drop_in.environment import (
    Client,
    HubAddresses,
    Shell,
    line,
    needs_listener,
    publish_node_module,
    variables,
)

app = typer.Typer()


class NoListener(Invalid):
    def __init__(self, client: Client) -> None:
        super().__init__(
            f"{client} only reaches this hub through the drop-in listener. Start the server with "
            "`--drop-in-port`, and give the same option here."
        )


@app.command("env")
def env_command(
    client: Annotated[
        Client, typer.Option(help="Which client the program uses.")
    ] = Client.HUGGINGFACE_HUB,
    shell: Annotated[Shell, typer.Option(help="How the lines are written.")] = Shell.SH,
    url: Annotated[
        str | None,
        typer.Option(help="The hub's address as the program reaches it.", show_default=False),
    ] = None,
    drop_in_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="The listener's port; else the setting's."),
    ] = None,
    public_files: Annotated[
        Path | None,
        typer.Option(
            help="Copy the certificates and the Node module to this folder and name it in the "
            "lines: for users who cannot read the data folder.",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Print the environment in which an unmodified program reaches this hub.

    Use it as `eval "$(gatehouse env)"`. Tokens are not printed: set HF_TOKEN yourself.
    """
    settings = read_settings(data_dir)
    port = drop_in_port or settings.drop_in_port
    if port is None and needs_listener(client):
        raise NoListener(client)
    addresses = _addresses(settings, url, port, public_files)
    for name, value in variables(client, addresses).items():
        typer.echo(line(shell, name, value))
    if port is None:
        typer.echo(
            "Newer clients that are given a plain model id need the drop-in listener: see "
            "`gatehouse serve --drop-in-port`.",
            err=True,
        )


def _addresses(
    settings: Settings, url: str | None, port: int | None, public_files: Path | None
) -> HubAddresses:
    url = (url or settings.public_url or f"http://{settings.host}:{settings.port}").rstrip("/")
    names = split_names(settings.drop_in_names)
    if port is None:
        return HubAddresses(url, None, names, Path())
    make_data_dir(settings.data_dir)
    authority = CertificateAuthority.open(settings.data_dir.resolve(), names)
    folder = authority.certificate_path.parent
    if public_files is not None:
        folder = public_files.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        authority.write_public(folder)
    publish_node_module(folder)
    return HubAddresses(url, f"http://{settings.drop_in_host}:{port}", names, folder)
