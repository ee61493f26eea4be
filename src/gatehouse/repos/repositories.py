"""Which repositories there are: create, find, list, change, move and delete them.

A repository is a folder with git in it (made first, removed last) and a row (made last, removed
first), so that a crash between the two leaves a folder to collect and never a row without a folder.
"""

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import ColumnElement, Select, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from gatehouse.core.clock import Clock
from gatehouse.core.errors import Forbidden, NotFound
from gatehouse.core.ids import RepoId, RepoKind, check_name_part
from gatehouse.core.remembered import RememberedUntilChange
from gatehouse.db.engine import Database
from gatehouse.identity.actors import Actor, OrganizationRole
from gatehouse.identity.permissions import Permission
from gatehouse.identity.tables import AccountRow
from gatehouse.observability.audit import record
from gatehouse.repos.access import Access, missing_scope, repo_not_found
from gatehouse.repos.errors import RepoExists, RepoMoved, RepoNotFound
from gatehouse.repos.lfs_rules import DEFAULT_GITATTRIBUTES
from gatehouse.repos.repository import Gate, Repository, Visibility
from gatehouse.repos.tables import RepoRedirectRow, RepositoryRow
from gatehouse.storage.git.records import Put, Signature
from gatehouse.storage.git.repository import GitRepository

MAIN = "refs/heads/main"
# Who was let through the gate of which repository, to do what.
_Passage = tuple[Actor, RepoKind, RepoId, Permission]


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """What an owner may set; None leaves it as it is."""

    visibility: Visibility | None = None
    gate: Gate | None = None


class Repositories:
    def __init__(self, database: Database, access: Access, clock: Clock, root: Path) -> None:
        self._database = database
        self._access = access
        self._clock = clock
        self._root = root
        self._let_through = RememberedUntilChange[_Passage, Repository](database.version)

    def git_path(self, repository: Repository) -> Path:
        return self._path(repository.storage_id)

    def git(self, repository: Repository) -> GitRepository:
        """Open its git repository. The handle belongs to the calling thread."""
        return self.open_git(repository.storage_id)

    def open_git(self, storage_id: str) -> GitRepository:
        return GitRepository.open(self._path(storage_id))

    def require(
        self, actor: Actor, kind: RepoKind, repo_id: RepoId, permission: Permission
    ) -> Repository:
        """Find a repository and pass it through the gate.

        Raises:
            RepoMoved: It has another name now, and the actor may know it.
            GatehouseError: See `Access.require`.
        """
        passage = (actor, kind, repo_id, permission)
        return self._let_through.get(passage, lambda: self._require(*passage))

    def remembered(
        self, actor: Actor, kind: RepoKind, repo_id: RepoId, permission: Permission
    ) -> Repository | None:
        """What `require` would return, if nothing has to be read for it; does not block."""
        return self._let_through.peek((actor, kind, repo_id, permission))

    def by_id(self, repository_id: int) -> Repository | None:
        with self._database.read() as session:
            row = session.execute(_joined().where(RepositoryRow.id == repository_id)).first()
        return _snapshot(row[0], row[1]) if row else None

    def by_name(self, kind: RepoKind, repo_id: RepoId) -> Repository:
        """A repository under the name that it has now, for the operator: no gate is asked.

        Raises:
            RepoNotFound: Nothing has this name.
        """
        repository = self._find_owned(kind, repo_id)
        if repository is None:
            raise RepoNotFound(f"There is no repository {kind.plural}/{repo_id}.")
        return repository

    def create(
        self,
        actor: Actor,
        kind: RepoKind,
        repo_id: RepoId,
        visibility: Visibility = Visibility.PUBLIC,
        gate: Gate = Gate.OPEN,
    ) -> Repository:
        """Create a repository with a first commit that holds `.gitattributes`.

        Raises:
            RepoExists: The owner has one of this kind and name.
            Forbidden: The actor may not create repositories for this owner.
        """
        check_name_part(repo_id.name, "name")
        owner_id, owner_name = self._owner_for_writing(actor, repo_id.namespace)
        assert actor.user is not None
        repo_id = RepoId(owner_name, repo_id.name)
        existing = self._find_owned(kind, repo_id)
        if existing is not None:
            raise RepoExists(kind, existing.repo_id)
        storage_id = uuid.uuid4().hex
        now = self._clock.now()
        author = Signature(actor.user.name, f"{actor.user.name}@users.noreply.gatehouse", now)
        _init_git(self._path(storage_id), author)
        row = RepositoryRow(
            storage_id=storage_id,
            kind=kind.value,
            owner_id=owner_id,
            name=repo_id.name,
            name_folded=repo_id.name.casefold(),
            visibility=visibility.value,
            gated=gate.value,
            created_at=now,
            updated_at=now,
        )
        try:
            with self._database.write() as session:
                _drop_redirect(session, kind, repo_id)
                session.add(row)
                session.flush()
                record(session, now, actor, "repo.create", f"{kind.plural}/{repo_id}")
                return _snapshot(row, owner_name)
        except IntegrityError:
            shutil.rmtree(self._path(storage_id))
            raise RepoExists(kind, repo_id) from None

    def delete(self, actor: Actor, repository: Repository) -> None:
        with self._database.write() as session:
            row = session.get(RepositoryRow, repository.id)
            if row is not None:
                session.delete(row)
                name = f"{repository.kind.plural}/{repository.repo_id}"
                record(session, self._clock.now(), actor, "repo.delete", name)
        shutil.rmtree(self.git_path(repository), ignore_errors=True)

    def change_settings(
        self, actor: Actor, repository: Repository, change: SettingsChange
    ) -> Repository:
        with self._database.write() as session:
            row, owner_name = self._locked(session, repository)
            # What is left out stays as the row has it, not as the caller last saw it.
            if change.visibility is not None:
                row.visibility = change.visibility.value
            if change.gate is not None:
                row.gated = change.gate.value
            row.generation += 1
            detail = {"visibility": row.visibility, "gated": row.gated}
            name = f"{repository.kind.plural}/{repository.repo_id}"
            record(session, self._clock.now(), actor, "repo.settings", name, detail)
            return _snapshot(row, owner_name)

    def move(self, actor: Actor, repository: Repository, target: RepoId) -> Repository:
        """Give a repository another name, and leave the old one as a redirect.

        Raises:
            RepoExists: The new name is taken.
        """
        check_name_part(target.name, "toRepo")
        owner_id, owner_name = self._owner_for_writing(actor, target.namespace)
        target = RepoId(owner_name, target.name)
        existing = self._find_owned(repository.kind, target)
        if existing is not None and existing.id != repository.id:
            raise RepoExists(repository.kind, target)
        try:
            with self._database.write() as session:
                row, _ = self._locked(session, repository)
                _drop_redirect(session, repository.kind, target)
                if _folded(repository.repo_id) != _folded(target):
                    _drop_redirect(session, repository.kind, repository.repo_id)
                    session.add(_redirect(repository))
                row.owner_id, row.name, row.name_folded = (
                    owner_id,
                    target.name,
                    target.name.casefold(),
                )
                row.generation += 1
                session.flush()
                name = f"{repository.kind.plural}/{repository.repo_id}"
                record(session, self._clock.now(), actor, "repo.move", name, {"to": str(target)})
                return _snapshot(row, owner_name)
        except IntegrityError:
            raise RepoExists(repository.kind, target) from None

    def touch(self, repository_id: int) -> None:
        """Note that its content changed just now."""
        with self._database.write() as session:
            row = session.get(RepositoryRow, repository_id)
            if row is not None:
                row.updated_at = self._clock.now()

    def list_visible(
        self,
        actor: Actor,
        kind: RepoKind | None = None,
        owner: str | None = None,
        search: str | None = None,
        limit: int = 100,
    ) -> list[Repository]:
        """Repositories this actor may know of, last changed first."""
        query = _joined().order_by(RepositoryRow.updated_at.desc(), RepositoryRow.id.desc())
        if kind is not None:
            query = query.where(RepositoryRow.kind == kind.value)
        if owner is not None:
            query = query.where(AccountRow.name_folded == owner.casefold())
        if search:
            pattern = f"%{_escape_like(search.casefold())}%"
            matches_name = RepositoryRow.name_folded.like(pattern, escape="\\")
            query = query.where(
                or_(matches_name, AccountRow.name_folded.like(pattern, escape="\\"))
            )
        query = query.where(_visible_to(actor)) if not _sees_all(actor) else query
        with self._database.read() as session:
            return [_snapshot(row, name) for row, name in session.execute(query.limit(limit))]

    def _require(
        self, actor: Actor, kind: RepoKind, repo_id: RepoId, permission: Permission
    ) -> Repository:
        repository = self._find(kind, repo_id)
        # In the caller's own words: a hidden repository's real name would give it away.
        if repository is None or not self._access.may_know_of(actor, repository):
            raise repo_not_found(actor, f"{kind.plural}/{repo_id}")
        if _folded(repository.repo_id) != _folded(repo_id):
            raise RepoMoved(kind, repo_id, repository.repo_id)
        self._access.require(actor, repository, permission)
        return repository

    def _find(self, kind: RepoKind, repo_id: RepoId) -> Repository | None:
        by_name = _joined().where(
            RepositoryRow.kind == kind.value,
            AccountRow.name_folded == repo_id.namespace.casefold(),
            RepositoryRow.name_folded == repo_id.name.casefold(),
        )
        by_redirect = (
            _joined()
            .join(RepoRedirectRow, RepoRedirectRow.repository_id == RepositoryRow.id)
            .where(*_redirect_is(kind, repo_id))
        )
        with self._database.read() as session:
            row = session.execute(by_name).first() or session.execute(by_redirect).first()
        return _snapshot(row[0], row[1]) if row else None

    def _find_owned(self, kind: RepoKind, repo_id: RepoId) -> Repository | None:
        """The repository that has this name now; a redirect does not keep a name taken."""
        found = self._find(kind, repo_id)
        return found if found is not None and _folded(found.repo_id) == _folded(repo_id) else None

    def _owner_for_writing(self, actor: Actor, namespace: str) -> tuple[int, str]:
        if not actor.may(Permission.REPO_CREATE):
            raise missing_scope(actor, Permission.REPO_CREATE)
        with self._database.read() as session:
            account = session.scalars(
                select(AccountRow).where(AccountRow.name_folded == namespace.casefold())
            ).first()
        role = actor.role_in(account.id) if account else None
        if account is None or role not in (OrganizationRole.WRITE, OrganizationRole.ADMIN):
            raise Forbidden(
                f"You don't have the rights to create a repo under the namespace `{namespace}`."
            )
        return account.id, account.name

    def _locked(self, session: Session, repository: Repository) -> tuple[RepositoryRow, str]:
        query = _joined().where(RepositoryRow.id == repository.id).with_for_update(of=RepositoryRow)
        row = session.execute(query).first()
        if row is None:
            raise NotFound(f"Repository not found: {repository.repo_id}")
        return row[0], row[1]

    def _path(self, storage_id: str) -> Path:
        return self._root / storage_id[:2] / f"{storage_id}.git"


def _init_git(path: Path, author: Signature) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    git = GitRepository.create(path)
    blob = git.write_blob(DEFAULT_GITATTRIBUTES.encode())
    first = git.commit(None, [Put(".gitattributes", blob)], "initial commit", author)
    git.update_ref(MAIN, first, None)


def _joined() -> Select[RepositoryRow, str]:
    return select(RepositoryRow, AccountRow.name).join(
        AccountRow, AccountRow.id == RepositoryRow.owner_id
    )


def _snapshot(row: RepositoryRow, owner_name: str) -> Repository:
    return Repository(
        id=row.id,
        storage_id=row.storage_id,
        kind=RepoKind(row.kind),
        repo_id=RepoId(owner_name, row.name),
        owner_id=row.owner_id,
        visibility=Visibility(row.visibility),
        gate=Gate(row.gated),
        generation=row.generation or 0,
        downloads=row.downloads or 0,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _folded(repo_id: RepoId) -> tuple[str, str]:
    return repo_id.namespace.casefold(), repo_id.name.casefold()


def _redirect_is(kind: RepoKind, repo_id: RepoId) -> tuple[ColumnElement[bool], ...]:
    namespace, name = _folded(repo_id)
    return (
        RepoRedirectRow.kind == kind.value,
        RepoRedirectRow.namespace_folded == namespace,
        RepoRedirectRow.name_folded == name,
    )


def _redirect(repository: Repository) -> RepoRedirectRow:
    namespace, name = _folded(repository.repo_id)
    return RepoRedirectRow(
        kind=repository.kind.value,
        namespace_folded=namespace,
        name_folded=name,
        repository_id=repository.id,
    )


def _drop_redirect(session: Session, kind: RepoKind, repo_id: RepoId) -> None:
    query = select(RepoRedirectRow).where(*_redirect_is(kind, repo_id))
    for row in session.scalars(query):
        session.delete(row)
    session.flush()


def _visible_to(actor: Actor) -> ColumnElement[bool]:
    accounts = [] if actor.user is None else [actor.user.id]
    accounts += [] if actor.user is None else [m.organization_id for m in actor.user.memberships]
    return or_(
        RepositoryRow.visibility == Visibility.PUBLIC.value, RepositoryRow.owner_id.in_(accounts)
    )


def _sees_all(actor: Actor) -> bool:
    return actor.user is not None and actor.user.is_admin


def _escape_like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
