"""Which repositories' models are run by other servers. Administrators register them."""

import secrets
from dataclasses import dataclass, field, replace

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from gatehouse.core.clock import Clock
from gatehouse.core.ids import RepoKind
from gatehouse.core.remembered import Remembered
from gatehouse.db.engine import Database
from gatehouse.engines.remote.base import RemoteAbilities, RemoteKind
from gatehouse.inference.remote.errors import (
    KeyUnreadable,
    RemoteEngineExists,
    RemoteEngineInvalid,
    RemoteEngineNotFound,
)
from gatehouse.inference.remote.sealing import Seal, SealBroken
from gatehouse.inference.remote.source import RemoteSource, read_server_url
from gatehouse.inference.remote.tables import RemoteEngineRow
from gatehouse.observability.audit import AuditedActor, record
from gatehouse.repos.infos import RepoInfo
from gatehouse.repos.repository import Repository

DEFAULT_NUM_CONCURRENT = 64
_TASK = "text-generation"
_MAX_NAME = 300
_MAX_KEY = 4096
_MAX_CONTEXT = 2**31 - 1


# Several threads that look at a type for the first time can crash in msgspec (see `framing`).
msgspec.json.Decoder(RemoteAbilities)


@dataclass(frozen=True, slots=True)
class RemoteServer:
    """What an administrator says of a server.

    Attributes:
        url: Its address; a `/v1` at the end is left off.
        model_name: What it calls the model.
        api_key: What it wants as Bearer token.
        num_concurrent: Requests that one hub process has under way there at once.
    """

    url: str
    kind: RemoteKind
    model_name: str
    context_length: int
    abilities: RemoteAbilities
    api_key: str | None = field(default=None, repr=False)
    num_concurrent: int = DEFAULT_NUM_CONCURRENT


@dataclass(frozen=True, slots=True)
class RemoteEngine:
    """One registration, as the database has it. `version` changes with every change."""

    repository_id: int
    url: str
    kind: RemoteKind
    model_name: str
    context_length: int
    abilities: RemoteAbilities
    num_concurrent: int
    version: str
    sealed_key: bytes | None = field(repr=False)


class RemoteEngines:
    """The registrations.

    Args:
        database: Where they are.
        seal: Closes and opens the servers' keys.
        clock: When something was added.
    """

    def __init__(self, database: Database, seal: Seal, clock: Clock) -> None:
        self._database = database
        self._seal = seal
        self._clock = clock
        # Asked for with every request, and few: all of them are read together.
        self._known = Remembered(self._read, version=database.version)

    def add(self, repository: Repository, server: RemoteServer, by: AuditedActor) -> None:
        """Let another server run a repository's model.

        Raises:
            RemoteEngineExists: One does already.
            RemoteEngineInvalid: A value breaks its rule.
        """
        if repository.kind is not RepoKind.MODEL:
            raise RemoteEngineInvalid("Only models can be run, and this is no model repository.")
        url = read_server_url(server.url)
        _check(server)
        sealed = None
        if server.api_key:
            sealed = self._seal.close(server.api_key, _sealed_for(repository.id, url))
        row = RemoteEngineRow(
            repository_id=repository.id,
            url=url,
            kind=server.kind.value,
            model_name=server.model_name,
            sealed_key=sealed,
            context_length=server.context_length,
            abilities=msgspec.to_builtins(server.abilities),
            num_concurrent=server.num_concurrent,
            version=secrets.token_hex(8),
            created_at=self._clock.now(),
        )
        detail = {"url": url, "model": server.model_name}
        with self._database.write() as session:
            if session.get(RemoteEngineRow, repository.id) is not None:
                raise RemoteEngineExists(str(repository.repo_id))
            session.add(row)
            record(session, row.created_at, by, "remote.add", str(repository.repo_id), detail)
        self._known.forget()

    def update_abilities(
        self, repository: Repository, abilities: RemoteAbilities, context_length: int
    ) -> None:
        """Note what a server was found to do now.

        Raises:
            RemoteEngineNotFound: No server runs it.
        """
        with self._database.write() as session:
            row = _row(session, repository)
            row.abilities = msgspec.to_builtins(abilities)
            row.context_length = context_length
            row.version = secrets.token_hex(8)
        self._known.forget()

    def remove(self, repository: Repository, by: AuditedActor) -> None:
        """Let the hub run the model itself again. Answers that are under way go on.

        Raises:
            RemoteEngineNotFound: No server runs it.
        """
        with self._database.write() as session:
            session.delete(_row(session, repository))
            record(session, self._clock.now(), by, "remote.remove", str(repository.repo_id))
        self._known.forget()

    def all(self) -> list[RemoteEngine]:
        """Every registration, by repository id."""
        return [engine for _, engine in sorted(self._read().items())]

    def find(self, repository: Repository) -> RemoteEngine | None:
        """The repository's registration; changes by other processes are seen a little later."""
        return self._known.get().get(repository.id)

    def is_known_to_be_without(self, repository: Repository) -> bool:
        """Whether no server runs it, as far as that is known without reading; does not block."""
        known = self._known.peek()
        return known is not None and repository.id not in known

    def described(self, repository: Repository, info: RepoInfo) -> RepoInfo:
        """What a repository says of itself, and what the server that runs it adds to that."""
        engine = self.find(repository)
        if engine is None:
            return info
        task = info.task or _TASK
        added = [task] + (["conversational"] if engine.abilities.chat is not None else [])
        tags = dict.fromkeys((*info.tags, *added))
        return replace(info, task=task, tags=tuple(tags))

    def source(self, repository: Repository, engine: RemoteEngine, commit_oid: str) -> RemoteSource:
        """What to hold the model by.

        Raises:
            KeyUnreadable: The server's key cannot be opened.
        """
        api_key = None
        if engine.sealed_key is not None:
            try:
                api_key = self._seal.open(
                    engine.sealed_key, _sealed_for(engine.repository_id, engine.url)
                )
            except SealBroken:
                raise KeyUnreadable(str(repository.repo_id)) from None
        return RemoteSource(
            key=f"{repository.storage_id}:{engine.version}:{commit_oid}",
            name=str(repository.repo_id),
            url=engine.url,
            kind=engine.kind,
            model_name=engine.model_name,
            context_length=engine.context_length,
            abilities=engine.abilities,
            num_concurrent=engine.num_concurrent,
            api_key=api_key,
        )

    def _read(self) -> dict[int, RemoteEngine]:
        with self._database.read() as session:
            rows = session.scalars(select(RemoteEngineRow))
            return {row.repository_id: _engine(row) for row in rows}


def _row(session: Session, repository: Repository) -> RemoteEngineRow:
    row = session.get(RemoteEngineRow, repository.id)
    if row is None:
        raise RemoteEngineNotFound(str(repository.repo_id))
    return row


def _engine(row: RemoteEngineRow) -> RemoteEngine:
    return RemoteEngine(
        repository_id=row.repository_id,
        url=row.url,
        kind=RemoteKind(row.kind),
        model_name=row.model_name,
        context_length=row.context_length,
        abilities=msgspec.convert(row.abilities, RemoteAbilities),
        num_concurrent=row.num_concurrent,
        version=row.version,
        sealed_key=row.sealed_key,
    )


def _check(server: RemoteServer) -> None:
    name, key = server.model_name, server.api_key or ""
    if not name or len(name) > _MAX_NAME or not name.isprintable():
        raise RemoteEngineInvalid(f"`--model` must be 1 to {_MAX_NAME} printable characters.")
    if len(key) > _MAX_KEY or not key.isascii() or not key.isprintable():
        raise RemoteEngineInvalid(
            f"The key must be at most {_MAX_KEY} printable ASCII characters on one line."
        )
    if not 0 < server.context_length <= _MAX_CONTEXT:
        raise RemoteEngineInvalid("`--context-length` must be a positive number of tokens.")
    if not 0 < server.num_concurrent <= 10_000:
        raise RemoteEngineInvalid("`--max-concurrent` must be between 1 and 10000.")


def _sealed_for(repository_id: int, url: str) -> str:
    return f"{repository_id} {url}"
