"""Whether a hub worker sees at once what any other process committed."""

from pathlib import Path

import pytest
from factories import Hub, bearer
from sqlalchemy import text

from gatehouse.core.clock import FakeClock
from gatehouse.core.ids import RepoId, RepoKind
from gatehouse.db.engine import Database
from gatehouse.identity.actors import ANONYMOUS
from gatehouse.identity.permissions import Permission, TokenRole
from gatehouse.identity.tokens import AccessTokens, InvalidToken
from gatehouse.repos.access import LoginRequired
from gatehouse.repos.repositories import SettingsChange
from gatehouse.repos.repository import Visibility


def test_version_changes_with_every_commit_of_anybody(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    one, other = Database(url), Database(url)
    versions = [one.version()]
    for database in (one, other, one):
        with database.write() as session:
            session.execute(text(f"CREATE TABLE t{len(versions)} (x INTEGER)"))
        versions.append(one.version())
    assert len(set(versions)) == 4
    assert one.version() == versions[-1]
    with other.read() as session:
        session.execute(text("SELECT * FROM t1")).all()
    assert one.version() == versions[-1]
    one.dispose()
    other.dispose()


def test_database_in_memory_has_no_version() -> None:
    database = Database("sqlite://")
    assert database.version() is None
    database.dispose()


def test_token_that_another_process_ended_is_refused_at_once(hub: Hub) -> None:
    olivia = hub.make_user("olivia")
    new = hub.services.tokens.create(olivia.user.id, "one more", TokenRole.READ)
    headers = bearer(new.value)
    for _ in range(3):
        assert hub.client.get("/api/whoami-v2", headers=headers).status_code == 200
    assert hub.services.tokens.remembered(new.value) is not None
    elsewhere = Database(hub.settings.resolved_database_url())
    AccessTokens(elsewhere, FakeClock()).delete(olivia.user.id, new.token.id)
    elsewhere.dispose()
    assert hub.services.tokens.remembered(new.value) is None
    assert hub.client.get("/api/whoami-v2", headers=headers).status_code == 401


def test_token_ends_though_nothing_changes(hub: Hub) -> None:
    olivia = hub.make_user("olivia")
    end = hub.clock.now().replace(second=30)
    new = hub.services.tokens.create(olivia.user.id, "short", TokenRole.READ, end)
    hub.services.tokens.authenticate(new.value)
    hub.services.tokens.authenticate(new.value)
    assert hub.services.tokens.remembered(new.value) is not None
    hub.clock.advance(31)
    assert hub.services.tokens.remembered(new.value) is None
    with pytest.raises(InvalidToken):
        hub.services.tokens.authenticate(new.value)


def test_repository_made_private_is_gone_at_once(hub: Hub) -> None:
    olivia = hub.make_user("olivia")
    repository = hub.make_repo(olivia, "model")
    name = RepoId("olivia", "model")
    passage = (ANONYMOUS, RepoKind.MODEL, name, Permission.REPO_CONTENT)
    hub.services.repositories.require(*passage)
    assert hub.services.repositories.remembered(*passage) == repository
    change = SettingsChange(visibility=Visibility.PRIVATE)
    hub.services.repositories.change_settings(olivia.actor, repository, change)
    assert hub.services.repositories.remembered(*passage) is None
    with pytest.raises(LoginRequired):
        hub.services.repositories.require(*passage)
