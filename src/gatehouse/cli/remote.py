"""`gatehouse remote`: models that other servers run."""

import sys
from dataclasses import replace
from functools import partial
from typing import Annotated

import anyio
import typer
from rich.console import Console
from rich.table import Table

from gatehouse.cli.options import DataDir
from gatehouse.cli.repositories import find_model, open_repositories
from gatehouse.cli.workspace import Workspace, open_workspace
from gatehouse.core.clock import SystemClock
from gatehouse.core.errors import Invalid
from gatehouse.engines.remote.base import RemoteAbilities, RemoteKind, RouteAbilities
from gatehouse.inference.remote.check import Finding, check_server
from gatehouse.inference.remote.errors import RemoteEngineNotFound
from gatehouse.inference.remote.registrations import (
    DEFAULT_NUM_CONCURRENT,
    RemoteEngines,
    RemoteServer,
)
from gatehouse.inference.remote.sealing import Seal
from gatehouse.inference.remote.source import RemoteSource, read_server_url
from gatehouse.observability.audit import OPERATOR
from gatehouse.repos.repository import Repository
from gatehouse.storage.created_once import folder_secret

app = typer.Typer(
    name="remote",
    help="Let other servers run models: vLLM, TGI, or any that speaks OpenAI's API.",
    no_args_is_help=True,
)

# Without asking the server: what all of them have, and nothing that only some do.
_UNCHECKED = RemoteAbilities(text=RouteAbilities(), chat=RouteAbilities())
_WIDE = 1000
RepoName = Annotated[
    str, typer.Argument(metavar="REPOSITORY", help="The model repository, such as `org/name`.")
]


class ServerUnsuitable(Invalid):
    """The server answers, but not as it would have to."""


@app.command()
def add(
    repository: RepoName,
    url: Annotated[str, typer.Option(help="The server's address, such as http://10.0.0.5:8000.")],
    model: Annotated[
        str | None, typer.Option(help="What the server calls the model. Default: REPOSITORY.")
    ] = None,
    kind: Annotated[
        RemoteKind, typer.Option(help="`openai` for vLLM and most others; `tgi`.")
    ] = RemoteKind.OPENAI,
    key_stdin: Annotated[
        bool, typer.Option("--key-stdin", help="Read the server's key from standard input.")
    ] = False,
    context_length: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens of prompt and answer together, if it does not tell."),
    ] = None,
    max_concurrent: Annotated[
        int, typer.Option(min=1, help="Requests that one hub process sends it at once.")
    ] = DEFAULT_NUM_CONCURRENT,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Do not ask the server what it can do.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Let a server run a repository's model, for everybody who may run it on this hub."""
    key = _read_key() if key_stdin else None
    with open_workspace(data_dir) as workspace:
        engines, found = _engines(workspace), find_model(workspace, repository)
        server = RemoteServer(
            read_server_url(url),
            kind,
            model or str(found.repo_id),
            context_length or 0,
            _UNCHECKED,
            key,
            max_concurrent,
        )
        if not no_check:
            finding = _check(_source(found, server))
            _print(finding)
            server = replace(
                server,
                abilities=finding.abilities,
                context_length=context_length or finding.context_length or 0,
            )
        if not server.context_length:
            raise ServerUnsuitable(
                "The server does not tell how long its prompts may be: give `--context-length`."
            )
        engines.add(found, server, by=OPERATOR)
    typer.echo(f"{found.repo_id} is run by {server.url} now.", err=True)


@app.command("list")
def list_command(data_dir: DataDir = None) -> None:
    """Show which models other servers run. Keys are never shown."""
    table = Table("repository", "server", "kind", "its name", "context", "key", box=None)
    with open_workspace(data_dir) as workspace:
        repositories = open_repositories(workspace)
        for engine in _engines(workspace).all():
            repository = repositories.by_id(engine.repository_id)
            table.add_row(
                str(repository.repo_id) if repository else "",
                engine.url,
                engine.kind.value,
                engine.model_name,
                str(engine.context_length),
                "yes" if engine.sealed_key else "no",
            )
    console = Console()
    # A program that reads it wants whole addresses, however long.
    console.width = console.width if console.is_terminal else _WIDE
    console.print(table)


@app.command()
def check(repository: RepoName, data_dir: DataDir = None) -> None:
    """Ask a registered server again what it can do, and note it."""
    with open_workspace(data_dir) as workspace:
        engines, found = _engines(workspace), find_model(workspace, repository)
        engine = engines.find(found)
        if engine is None:
            raise RemoteEngineNotFound(str(found.repo_id))
        finding = _check(engines.source(found, engine, ""))
        _print(finding)
        context_length = finding.context_length or engine.context_length
        engines.update_abilities(found, finding.abilities, context_length)


@app.command()
def remove(repository: RepoName, data_dir: DataDir = None) -> None:
    """Let the hub run the model itself again, if the repository has its weights."""
    with open_workspace(data_dir) as workspace:
        engines, found = _engines(workspace), find_model(workspace, repository)
        engines.remove(found, by=OPERATOR)
    typer.echo(f"{found.repo_id} is no longer run by another server.", err=True)


def _engines(workspace: Workspace) -> RemoteEngines:
    seal = Seal(folder_secret(workspace.settings.data_dir.resolve()))
    return RemoteEngines(workspace.database, seal, SystemClock())


def _source(repository: Repository, server: RemoteServer) -> RemoteSource:
    """What to ask a server by that is not registered yet."""
    return RemoteSource(
        key="",
        name=str(repository.repo_id),
        url=server.url,
        kind=server.kind,
        model_name=server.model_name,
        context_length=server.context_length,
        abilities=server.abilities,
        num_concurrent=1,
        api_key=server.api_key,
    )


def _read_key() -> str:
    key = sys.stdin.readline().strip()
    if not key:
        raise ServerUnsuitable("No key: write it to standard input, as one line.")
    return key


def _check(source: RemoteSource) -> Finding:
    finding = anyio.run(partial(check_server, source))
    if finding.knows_model is False:
        raise ServerUnsuitable(
            f"The server lists models, and `{source.model_name}` is none of them: "
            "give its name there with `--model`."
        )
    if not finding.can_run:
        raise ServerUnsuitable(
            "The server answers, but neither completes texts nor conversations: see that the "
            "address, `--kind`, `--model` and the key are right."
        )
    return finding


def _print(finding: Finding) -> None:
    abilities = finding.abilities
    found = {
        "texts": abilities.text is not None,
        "conversations": abilities.chat is not None,
        "log-probabilities": any(
            route is not None and route.logprobs for route in (abilities.text, abilities.chat)
        ),
        "tokenizing": abilities.can_tokenize,
    }
    for name, is_there in found.items():
        typer.echo(f"{name}: {'yes' if is_there else 'no'}")
    typer.echo(f"context length: {finding.context_length or 'not told'}")
