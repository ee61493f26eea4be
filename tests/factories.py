"""A whole hub in one process over a temporary folder, and makers of what tests need in it."""

import base64
import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from anyio.from_thread import start_blocking_portal
from argon2 import PasswordHasher
from fastapi import FastAPI
from sqlalchemy import text
from starlette.testclient import TestClient

from gatehouse.core.clock import FakeClock
from gatehouse.core.ids import RepoId, RepoKind
from gatehouse.core.settings import Settings
from gatehouse.db.base import Base
from gatehouse.db.engine import Database
from gatehouse.http.actors import SESSION_COOKIE
from gatehouse.http.context import Services
from gatehouse.identity.actors import Actor, OrganizationRole, User, token_actor
from gatehouse.identity.passwords import Passwords
from gatehouse.identity.permissions import TokenRole
from gatehouse.identity.users import Users
from gatehouse.repos.commits import AddFile, AddLargeFile, CommitHeader, Operation
from gatehouse.repos.repositories import SettingsChange
from gatehouse.repos.repository import Gate, Repository, Visibility
from gatehouse.server.app import create_app
from gatehouse.server.services import build_services

PASSWORD = "correct horse battery"
_KIB = 1024
# Moved by merely using a credential.
_LAST_USED = frozenset({"last_used_at"})
# Booked a second after somebody ran a model, whatever else goes on by then.
_BOOKED = frozenset({"usage"})


@dataclass(frozen=True)
class Person:
    """A user and the headers that each of their credentials is sent in."""

    user: User
    read: dict[str, str]
    write: dict[str, str]

    @property
    def actor(self) -> Actor:
        return token_actor(self.user, TokenRole.WRITE, 0)

    @property
    def name(self) -> str:
        return self.user.name


_shared_apps: list[FastAPI] = []


class Hub:
    """The application, its services, and a client without network that follows no redirect.

    Building an application takes longer than most tests, so one is shared, by one hub at a time;
    `own_app` is for tests that add routes to it or start it with its lifespan.
    """

    def __init__(
        self, folder: Path, migrated: Path, *, own_app: bool = False, **settings: Any
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(migrated, folder / "gatehouse.db")
        # Tests of other things than loading do not poll until the model is there.
        settings = {"cold_model_wait_seconds": 60.0} | settings
        self.settings = Settings(data_dir=folder, **settings)
        self.clock = FakeClock()
        self.database = Database(self.settings.resolved_database_url())
        services = build_services(self.settings, self.database, self.clock)
        users = Users(self.database, self.clock, quick_passwords())
        self.services: Services = replace(services, users=users)
        self.app = create_app(self.services) if own_app else _shared_app(self.services)
        self.client = TestClient(self.app, base_url="http://hub.test", follow_redirects=False)
        # One event loop for all requests; else the client starts one for each.
        self._loop = start_blocking_portal()
        self.client.portal = self._loop.__enter__()

    def close(self) -> None:
        self.client.close()
        self._loop.__exit__(None, None, None)
        self.services.ledger.close()
        self.services.response_cache.close()
        self.database.dispose()

    def make_user(self, name: str) -> Person:
        user = self.services.users.create(name, f"{name}@example.com", PASSWORD)
        return Person(
            user,
            read=self.make_token(user, TokenRole.READ),
            write=self.make_token(user, TokenRole.WRITE),
        )

    def make_organization(
        self, name: str, admin: Person, members: Iterable[tuple[Person, OrganizationRole]] = ()
    ) -> None:
        """Its members have to load themselves again: see `reload`."""
        organizations = self.services.organizations
        organizations.create(name, name.title(), admin.user)
        for person, role in members:
            organizations.add_member(name, person.user, role, by=admin.actor)

    def reload(self, person: Person) -> Person:
        """The same person, with the memberships they have now."""
        return replace(person, user=self.services.users.by_id(person.user.id))

    def make_token(self, user: User, role: TokenRole, name: str = "") -> dict[str, str]:
        """A new token, as the header that carries it."""
        token = self.services.tokens.create(user.id, name or f"{role.value} token", role)
        return bearer(token.value)

    def make_session(self, user: User) -> str:
        """A signed-in browser: the value of its `Cookie` header."""
        return f"{SESSION_COOKIE}={self.services.sessions.start(user)}"

    def make_repo(
        self,
        owner: Person,
        name: str,
        *,
        kind: RepoKind = RepoKind.MODEL,
        private: bool = False,
        gate: Gate = Gate.OPEN,
        files: Mapping[str, bytes] | None = None,
        large_files: Mapping[str, bytes] | None = None,
    ) -> Repository:
        """A repository with files in it, made by the services, not over HTTP."""
        repo_id = RepoId(owner.name, name)
        visibility = Visibility.PRIVATE if private else Visibility.PUBLIC
        repository = self.services.repositories.create(owner.actor, kind, repo_id, visibility)
        operations: list[Operation] = [
            AddFile(path, content) for path, content in (files or {}).items()
        ]
        for path, content in (large_files or {}).items():
            sha256 = self.put_object(repository, content)
            operations.append(AddLargeFile(path, sha256, len(content)))
        if operations:
            self.commit(owner, repository, operations)
        if gate is not Gate.OPEN:
            change = SettingsChange(gate=gate)
            repository = self.services.repositories.change_settings(owner.actor, repository, change)
        return repository

    def put_object(self, repository: Repository, content: bytes) -> str:
        """Bytes uploaded to a repository as a large file; returns their SHA-256."""
        with self.services.blobs.begin() as upload:
            upload.write(content)
            stored = upload.finish()
        self.services.large_files.link(repository, stored.sha256, stored.size)
        return stored.sha256

    def commit(
        self, person: Person, repository: Repository, operations: Iterable[Operation]
    ) -> str:
        header = CommitHeader("add files")
        return self.services.commits.create(person.actor, repository, "main", header, operations)

    def head(self, repository: Repository) -> str:
        return self.services.files.commit_oid(repository, "main")

    def accept(self, owner: Person, repository: Repository, person: Person) -> None:
        self.services.gating.grant(owner.actor, repository, person.name)

    def writes(self) -> tuple[int, int]:
        """Differs after anything was written to the database; cheaper than comparing `state`."""
        log = self.settings.data_dir / "gatehouse.db-wal"
        status = log.stat()
        return status.st_size, status.st_mtime_ns

    def state(self) -> dict[str, list[str]]:
        """All rows but for what merely using a credential or a model leaves, and all refs."""
        state: dict[str, list[str]] = {}
        with self.database.read() as session:
            for table in Base.metadata.sorted_tables:
                if table.name in _BOOKED:
                    continue
                columns = ", ".join(
                    f'"{c.name}"' for c in table.columns if c.name not in _LAST_USED
                )
                rows = session.execute(text(f"SELECT {columns} FROM {table.name}"))
                state[table.name] = sorted(repr(tuple(row)) for row in rows)
        for path in sorted((self.settings.data_dir / "git").glob("*/*.git")):
            git = self.services.repositories.open_git(path.stem)
            state[f"git {path.stem}"] = [f"{ref.name} {ref.target_oid}" for ref in git.refs()]
        return state


def _shared_app(services: Services) -> FastAPI:
    if not _shared_apps:
        _shared_apps.append(create_app(services))
    app = _shared_apps[0]
    app.state.services = services
    return app


def quick_passwords() -> Passwords:
    return Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def basic(username: str, password: str) -> dict[str, str]:
    pair = base64.b64encode(f"{username}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def ndjson(*lines: tuple[str, dict[str, Any]]) -> bytes:
    """The body of a commit request."""
    return b"".join(
        json.dumps({"key": key, "value": value}).encode() + b"\n" for key, value in lines
    )


def add_file(path: str, content: bytes) -> tuple[str, dict[str, Any]]:
    encoded = base64.b64encode(content).decode()
    return "file", {"path": path, "content": encoded, "encoding": "base64"}


def add_large_file(path: str, sha256: str, size: int) -> tuple[str, dict[str, Any]]:
    return "lfsFile", {"path": path, "algo": "sha256", "oid": sha256, "size": size}


def segment(revision_or_path: str) -> str:
    """Text as one segment of a URL, slashes encoded."""
    return quote(revision_or_path, safe="")
