from typing import Any

import pytest
from argon2 import PasswordHasher
from identity_house import PASSWORD, House
from sqlalchemy import select

from gatehouse.core.errors import NotFound
from gatehouse.identity.accounts import (
    AccountKind,
    AccountNotFound,
    InvalidFullname,
    InvalidName,
    NameTaken,
)
from gatehouse.identity.actors import Plan
from gatehouse.identity.passwords import InvalidPassword, Passwords
from gatehouse.identity.tables import UserRow
from gatehouse.identity.users import (
    EmailTaken,
    InvalidEmail,
    UserNotFound,
    Users,
    WrongPassword,
)
from gatehouse.observability.audit import OPERATOR


def test_a_created_user_signs_in_by_name_and_by_email_in_any_case() -> None:
    house = House()
    alice = house.users.create("Alice", "Alice@Example.com", PASSWORD, "Alice A.")
    for name in ("Alice", "ALICE", "alice@example.COM"):
        assert house.users.authenticate(name, PASSWORD) == alice
    assert (alice.name, alice.email, alice.fullname) == ("Alice", "Alice@Example.com", "Alice A.")
    assert (alice.plan, alice.is_admin) == (Plan.FREE, False)


def test_wrong_password_and_unknown_user_get_the_same_answer() -> None:
    house = House()
    house.user("alice")
    answers = set()
    for name, password in (
        ("alice", "wrong horse"),
        ("bob", PASSWORD),
        ("", ""),
        ("a@b", ""),
        ("a\x00", ""),
        ("\ud800", ""),
    ):
        with pytest.raises(WrongPassword) as caught:
            house.users.authenticate(name, password)
        answers.add(str(caught.value))
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("name", "a" * 43, InvalidName),
        ("name", "", InvalidName),
        ("name", "a b", InvalidName),
        ("name", "a/b", InvalidName),
        ("name", "über", InvalidName),
        ("name", "-a", InvalidName),
        ("name", "a--b", InvalidName),
        ("name", "alice\n", InvalidName),
        ("name", "datasets", InvalidName),
        ("name", "API", InvalidName),
        ("name", "hf-inference", InvalidName),
        ("email", "nobody", InvalidEmail),
        ("email", "a@", InvalidEmail),
        ("email", "@b", InvalidEmail),
        ("email", "a@b@c", InvalidEmail),
        ("email", "a b@c.d", InvalidEmail),
        ("email", "a@b..c", InvalidEmail),
        ("email", "a\x00@b.c", InvalidEmail),
        ("email", "a@" + "b" * 260, InvalidEmail),
        ("password", "short", InvalidPassword),
        ("fullname", "x" * 201, InvalidFullname),
        ("fullname", "two\nlines", InvalidFullname),
    ],
)
def test_a_bad_field_is_named_and_nobody_is_created(
    field: str, value: str, error: type[Exception]
) -> None:
    house = House()
    fields: dict[str, Any] = {"name": "alice", "email": "a@b.c", "password": PASSWORD, field: value}
    with pytest.raises(error, match=f"`{field}`"):
        house.users.create(**fields)
    assert house.dump() == ""


def test_names_and_emails_are_given_once_whatever_their_case() -> None:
    house = House()
    house.user("alice")
    with pytest.raises(NameTaken, match="`name` is taken"):
        house.users.create("ALICE", "other@example.com", PASSWORD)
    with pytest.raises(EmailTaken, match="`email` is taken"):
        house.users.create("other", "ALICE@example.com", PASSWORD)
    with pytest.raises(AccountNotFound):
        house.accounts.by_name("other")


@pytest.mark.parametrize("name", ["", "nobody", "a\x00", "\ud800", "x" * 10_000])
def test_a_name_that_nobody_has_is_not_found_and_can_be_shown(name: str) -> None:
    house = House()
    for find in (house.users.by_name, house.accounts.by_name, house.organizations.by_name):
        with pytest.raises(NotFound) as caught:
            find(name)
        assert len(caught.value.message.encode()) < 200


def test_users_and_organizations_share_their_names() -> None:
    house = House()
    house.organizations.create("Acme", "", house.user("alice"))
    with pytest.raises(NameTaken):
        house.user("acme")
    assert house.accounts.by_name("ACME").kind is AccountKind.ORGANIZATION
    with pytest.raises(UserNotFound):
        house.users.by_name("acme")


def test_plan_and_admin_are_changed_and_recorded_under_who_did_it() -> None:
    house = House()
    root, alice = house.user("root_"), house.user("alice")
    assert house.users.set_plan(alice.id, Plan.PRO, by=OPERATOR).plan is Plan.PRO
    assert house.users.set_admin(root.id, True, by=OPERATOR).is_admin
    assert house.users.by_name("alice").plan is Plan.PRO
    newest = house.audit.recent(2)
    assert [(e.actor_name, e.action, e.subject) for e in newest] == [
        ("(operator)", "user.set_admin", "root_"),
        ("(operator)", "user.set_plan", "alice"),
    ]
    with pytest.raises(UserNotFound):
        house.users.set_plan(999, Plan.PRO, by=OPERATOR)


def test_a_new_password_ends_the_other_sessions_and_the_old_password() -> None:
    house = House()
    alice, bob = house.user("alice"), house.user("bob")
    here, there = house.sessions.start(alice), house.sessions.start(alice)
    bobs = house.sessions.start(bob)
    actor = house.sessions.authenticate(here)
    assert actor is not None
    house.users.change_password(alice.id, PASSWORD, "another horse", keep_session=actor.session_id)
    assert house.sessions.authenticate(here) is not None
    assert house.sessions.authenticate(there) is None
    assert house.sessions.authenticate(bobs) is not None
    with pytest.raises(WrongPassword):
        house.users.authenticate("alice", PASSWORD)
    assert house.users.authenticate("alice", "another horse") == alice


def test_changing_a_password_needs_the_present_one_and_a_good_new_one() -> None:
    house = House()
    alice = house.user("alice")
    value = house.sessions.start(alice)
    with pytest.raises(WrongPassword):
        house.users.change_password(alice.id, "wrong horse", "another horse")
    with pytest.raises(InvalidPassword):
        house.users.change_password(alice.id, PASSWORD, "short")
    assert house.users.authenticate("alice", PASSWORD) == alice
    assert house.sessions.authenticate(value) is not None


def test_a_hash_of_old_parameters_is_renewed_at_sign_in() -> None:
    house = House()
    alice = house.user("alice")

    def kept() -> str:
        with house.database.read() as session:
            return session.scalars(select(UserRow.password_hash)).one()

    old = kept()
    stronger = Passwords(PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    users = Users(house.database, house.clock, stronger)
    assert users.authenticate("alice", PASSWORD) == alice
    renewed = kept()
    assert "t=2" in renewed
    assert renewed != old
    assert users.authenticate("alice", PASSWORD) == alice
    assert kept() == renewed


def test_no_password_is_kept_or_shown() -> None:
    house = House()
    alice = house.user("alice")
    house.users.change_password(alice.id, PASSWORD, "another horse")
    assert PASSWORD not in house.dump()
    assert "another horse" not in house.dump()
    assert "argon2" not in repr(alice)
