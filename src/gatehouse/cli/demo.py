"""`gatehouse demo`: the server with demo content, and what to try on it."""

import os
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gatehouse.cli.serve import open_for_serving
from gatehouse.core.settings import Settings
from gatehouse.db.engine import Database
from gatehouse.server.demo import DEMO_MODEL, OPEN_MODEL, Demo, prepare_demo
from gatehouse.server.process import serve
from gatehouse.server.services import build_services

_START_SECONDS = 60.0
_COLD_MODEL_WAIT_SECONDS = 60.0

app = typer.Typer()


@app.command("demo")
def demo_command(
    data_dir: Annotated[
        Path, typer.Option(help="Folder for the demo's data; a second start keeps it.")
    ] = Path("data/demo"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8080,
) -> None:
    """Start a server with demo users and a gated demo model, and print what to try.

    Only this machine can reach it. Stop it with Ctrl-C.
    """
    # What is printed below works when pasted, though the model may be loading still.
    settings = open_for_serving(
        {
            "data_dir": data_dir,
            "host": "127.0.0.1",
            "port": port,
            "cold_model_wait_seconds": _COLD_MODEL_WAIT_SECONDS,
        }
    )
    database = Database(settings.resolved_database_url())
    demo = prepare_demo(build_services(settings, database))
    database.dispose()
    threading.Thread(target=_print_when_up, args=(settings, demo), daemon=True).start()
    serve(settings)


def _print_when_up(settings: Settings, demo: Demo) -> None:
    url = f"http://127.0.0.1:{settings.port}"
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=1):  # noqa: S310  (our own address)
                break
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    _print(url, demo)


def _print(url: str, demo: Demo) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"\n[bold]Gatehouse is running.[/bold] Open [link={url}]{url}[/link]\n")
    for user in (demo.owner, demo.member, demo.visitor):
        console.print(f"  [bold]{user.name:8}[/bold] {user.about}")
        console.print(f"  {'':8} password {user.password}   token {user.token}", markup=False)
    console.print(f"\nRun the gated model {DEMO_MODEL}, as somebody who was let in:\n")
    _command(console, _curl(url, demo.member.token))
    console.print("\nThe same as somebody who was not (403), until the owner accepts a request:\n")
    _command(console, _curl(url, demo.visitor.token))
    console.print(f"\nFill a gap in a program with {OPEN_MODEL}, which is open to everybody:\n")
    _command(console, _fill(url))
    console.print(f"\nDownload {DEMO_MODEL} with the Hugging Face command line:\n")
    _command(console, f"HF_ENDPOINT={url} HF_TOKEN={demo.member.token} hf download {DEMO_MODEL}")
    console.print(
        f"\nSign in as [bold]visitor[/bold], ask for access at {url}/{DEMO_MODEL}, and accept the "
        f"request as [bold]owner[/bold] at {url}/{DEMO_MODEL}/settings/access."
    )
    console.print(f"\nStop with Ctrl-C. The data stays in {os.environ['GATEHOUSE_DATA_DIR']}.\n")


def _curl(url: str, token: str) -> str:
    body = '{"inputs": "Once upon a time", "parameters": {"max_new_tokens": 60}}'
    return (
        f"curl {url}/models/{DEMO_MODEL} -H 'Authorization: Bearer {token}' "
        f"-H 'Content-Type: application/json' -d '{body}'"
    )


def _fill(url: str) -> str:
    body = (
        r'{"prompt": "def total_prices(prices):\n    total = 0\n    for price in prices:\n", '
        r'"suffix": "    return total\n"}'
    )
    return (
        f"curl {url}/models/{OPEN_MODEL}/v1/completions "
        f"-H 'Content-Type: application/json' -H 'x-wait-for-model: 1' -d '{body}'"
    )


def _command(console: Console, line: str) -> None:
    # Plain, on one line and without markup, so that it works when pasted.
    console.print(f"  {line}", markup=False, soft_wrap=True)
