"""`gatehouse serve`: the hub's workers, and the supervisor of model hosts beside them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from gatehouse.cli.workspace import make_data_dir, open_database, read_settings
from gatehouse.core.settings import Settings
from gatehouse.server.process import serve

app = typer.Typer()


@app.command("serve")
def serve_command(
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder that holds everything Gatehouse keeps.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Hub processes.")] = None,
    drop_in_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="Also answer, on this port, programs that only know the public hub. "
            "`gatehouse env` prints what to set for them.",
        ),
    ] = None,
) -> None:
    """Start the server and keep it running until Ctrl-C.

    Everything else is set by environment variables: GATEHOUSE_PUBLIC_URL and the like, listed in
    the reference of settings.
    """
    given = {
        "data_dir": data_dir,
        "host": host,
        "port": port,
        "workers": workers,
        "drop_in_port": drop_in_port,
    }
    serve(open_for_serving(given))


def open_for_serving(given: Mapping[str, object]) -> Settings:
    """Read the settings with `given` over them, and bring the data folder up to date.

    Raises:
        UnusableWorkspace: The settings, the folder or the database cannot be used.
    """
    # Workers are processes of their own and read the same settings from the environment.
    for name, value in given.items():
        if value is not None:
            os.environ[f"GATEHOUSE_{name.upper()}"] = str(value)
    settings = read_settings(None)
    make_data_dir(settings.data_dir)
    open_database(settings).dispose()
    return settings
