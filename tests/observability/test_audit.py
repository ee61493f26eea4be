import pytest

from gatehouse.core.clock import FakeClock
from gatehouse.db.base import Base
from gatehouse.db.engine import Database
from gatehouse.identity.actors import ANONYMOUS
from gatehouse.observability.audit import OPERATOR, AuditTrail, record


def _database() -> Database:
    database = Database("sqlite://")
    Base.metadata.create_all(database.engine)
    return database


def test_entries_come_newest_first_and_can_be_paged() -> None:
    database, clock = _database(), FakeClock()
    with database.write() as session:
        for number in range(5):
            record(
                session, clock.now(), OPERATOR, "repo.create", f"models/a/{number}", {"n": number}
            )
    trail = AuditTrail(database)
    newest = trail.recent(2)
    assert [entry.subject for entry in newest] == ["models/a/4", "models/a/3"]
    assert newest[0].detail == {"n": 4}
    assert newest[0].moment == clock.now()
    rest = trail.recent(10, before_id=newest[-1].id)
    assert [entry.subject for entry in rest] == ["models/a/2", "models/a/1", "models/a/0"]
    assert len(trail.recent(subject="models/a/1")) == 1


def test_an_entry_vanishes_with_the_deed_that_failed() -> None:
    database, clock = _database(), FakeClock()

    def fail_half_way() -> None:
        with database.write() as session:
            record(session, clock.now(), OPERATOR, "repo.create", "models/a/b")
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert AuditTrail(database).recent() == ()


def test_nobody_and_the_operator_have_names_no_account_can_have() -> None:
    database, clock = _database(), FakeClock()
    with database.write() as session:
        record(session, clock.now(), ANONYMOUS, "x.y", "z")
        record(session, clock.now(), OPERATOR, "x.y", "z")
    entries = AuditTrail(database).recent()
    assert [entry.actor_name for entry in entries] == ["(operator)", "(anonymous)"]
    assert {entry.actor_id for entry in entries} == {None}


@pytest.mark.parametrize("key", ["password", "client_secret", "token_value", "Cookie"])
def test_details_called_like_secrets_are_refused(key: str) -> None:
    database, clock = _database(), FakeClock()
    with pytest.raises(ValueError, match="no secrets"), database.write() as session:
        record(session, clock.now(), OPERATOR, "x.y", "z", {key: "x"})
