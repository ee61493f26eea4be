from datetime import timedelta

import pytest
from identity_house import House

from gatehouse.identity.permissions import Permission, TokenRole
from gatehouse.identity.tables import AccessTokenRow
from gatehouse.identity.token_values import looks_like_token
from gatehouse.identity.tokens import (
    InvalidToken,
    InvalidTokenRequest,
    TokenNameTaken,
    TokenNotFound,
)


def test_a_new_token_speaks_for_its_user_with_its_role() -> None:
    house = House()
    alice = house.user("alice")
    reader = house.tokens.create(alice.id, "reader", TokenRole.READ)
    writer = house.tokens.create(alice.id, "writer", TokenRole.WRITE)
    actor = house.tokens.authenticate(reader.value)
    assert (actor.user, actor.token_id) == (alice, reader.token.id)
    assert actor.may(Permission.REPO_CONTENT)
    assert not actor.may(Permission.REPO_WRITE)
    assert house.tokens.authenticate(writer.value).may(Permission.REPO_WRITE)


def test_the_value_is_kept_nowhere_and_shown_in_no_repr() -> None:
    house = House()
    new = house.tokens.create(house.user().id, "laptop", TokenRole.READ)
    assert new.value not in house.dump()
    assert new.value not in repr(new)
    assert new.token.hint == new.value[-4:]
    refreshed = house.tokens.refresh(1, new.token.id)
    assert refreshed.value not in house.dump()


@pytest.mark.parametrize("change", ["", "x", "hf_", "hf_" + "a" * 36, "hf_" + "é" * 36, "\ud800"])
def test_a_malformed_value_is_refused_with_the_text_clients_know(change: str) -> None:
    with pytest.raises(InvalidToken) as caught:
        House().tokens.authenticate(change)
    assert str(caught.value) == "Invalid credentials in Authorization header"
    assert caught.value.code is None


def test_an_unknown_but_well_formed_value_is_refused() -> None:
    house, other = House(), House()
    foreign = other.tokens.create(other.user().id, "laptop", TokenRole.WRITE).value
    assert looks_like_token(foreign)
    with pytest.raises(InvalidToken):
        house.tokens.authenticate(foreign)


def test_refresh_keeps_the_token_and_kills_the_old_value() -> None:
    house = House()
    alice = house.user()
    old = house.tokens.create(alice.id, "laptop", TokenRole.WRITE)
    house.tokens.authenticate(old.value)
    new = house.tokens.refresh(alice.id, old.token.id)
    assert (new.token.id, new.token.name, new.token.role) == (old.token.id, "laptop", "write")
    assert new.token.last_used_at is None
    with pytest.raises(InvalidToken):
        house.tokens.authenticate(old.value)
    assert house.tokens.authenticate(new.value).user == alice
    assert len(house.tokens.list(alice.id)) == 1


def test_a_deleted_token_is_dead_and_its_id_is_not_given_again() -> None:
    house = House()
    alice = house.user()
    old = house.tokens.create(alice.id, "laptop", TokenRole.READ)
    house.tokens.delete(alice.id, old.token.id)
    with pytest.raises(InvalidToken):
        house.tokens.authenticate(old.value)
    again = house.tokens.create(alice.id, "laptop", TokenRole.READ)
    assert again.token.id != old.token.id


def test_nobody_reaches_the_tokens_of_another() -> None:
    house = House()
    alice, bob = house.user("alice"), house.user("bob")
    new = house.tokens.create(alice.id, "laptop", TokenRole.READ)
    for reach in (house.tokens.get, house.tokens.refresh, house.tokens.delete):
        with pytest.raises(TokenNotFound):
            reach(bob.id, new.token.id)
    with pytest.raises(TokenNotFound):
        house.tokens.dismiss_leak(bob.id, new.token.id)
    assert house.tokens.list(bob.id) == ()
    assert house.tokens.authenticate(new.value).user == alice


def test_an_expired_token_is_refused() -> None:
    house = House()
    alice = house.user()
    end = house.clock.now() + timedelta(hours=1)
    new = house.tokens.create(alice.id, "hour", TokenRole.READ, end)
    house.clock.advance(3599)
    assert house.tokens.authenticate(new.value).user == alice
    house.clock.advance(1)
    with pytest.raises(InvalidToken):
        house.tokens.authenticate(new.value)
    assert house.tokens.owner(new.value) is None
    with pytest.raises(InvalidTokenRequest, match="`expires_at`"):
        house.tokens.create(alice.id, "past", TokenRole.READ, house.clock.now())


def test_use_is_noted_at_most_once_a_minute() -> None:
    house = House()
    alice = house.user()
    new = house.tokens.create(alice.id, "laptop", TokenRole.READ)

    def used() -> float:
        last = house.tokens.get(alice.id, new.token.id).last_used_at
        assert last is not None
        return last.timestamp()

    house.tokens.authenticate(new.value)
    first = used()
    house.clock.advance(59)
    house.tokens.authenticate(new.value)
    assert used() == first
    house.clock.advance(1)
    house.tokens.authenticate(new.value)
    assert used() == first + 60


@pytest.mark.parametrize("name", ["", "   ", "x" * 97, "two\nlines", "nul\x00"])
def test_a_bad_token_name_is_refused(name: str) -> None:
    house = House()
    alice = house.user()
    with pytest.raises(InvalidTokenRequest, match="`name`"):
        house.tokens.create(alice.id, name, TokenRole.READ)


def test_names_are_unique_per_user() -> None:
    house = House()
    alice, bob = house.user("alice"), house.user("bob")
    house.tokens.create(alice.id, "laptop", TokenRole.READ)
    house.tokens.create(bob.id, "laptop", TokenRole.READ)
    with pytest.raises(TokenNameTaken, match="laptop"):
        house.tokens.create(alice.id, " laptop ", TokenRole.WRITE)


def test_a_leak_warns_the_owner_until_dismissed_or_refreshed() -> None:
    house = House()
    alice = house.user()
    new = house.tokens.create(alice.id, "laptop", TokenRole.READ)
    house.tokens.record_leak(new.value, "https://evil.example\r\n\x1b" + "x" * 400)
    token = house.tokens.get(alice.id, new.token.id)
    assert token.leaked_at == house.clock.now()
    assert token.leaked_origin is not None
    assert token.leaked_origin.startswith("https://evil.example")
    assert len(token.leaked_origin) == 300
    assert token.leaked_origin.isprintable()
    house.tokens.dismiss_leak(alice.id, token.id)
    assert house.tokens.get(alice.id, token.id).leaked_at is None
    house.tokens.record_leak(new.value, "https://evil.example")
    assert house.tokens.refresh(alice.id, token.id).token.leaked_at is None
    house.tokens.record_leak(new.value, "https://evil.example")
    assert house.tokens.get(alice.id, token.id).leaked_at is None


def test_leaks_of_nothing_of_ours_are_ignored() -> None:
    house = House()
    house.user()
    before = house.dump()
    house.tokens.record_leak("garbage", "https://evil.example")
    other = House()
    house.tokens.record_leak(
        other.tokens.create(other.user().id, "x", TokenRole.READ).value, "https://evil.example"
    )
    assert house.dump() == before


def test_a_repeated_leak_from_the_same_page_is_written_once() -> None:
    house = House()
    new = house.tokens.create(house.user().id, "laptop", TokenRole.READ)
    for _ in range(3):
        house.tokens.record_leak(new.value, "https://evil.example")
        house.clock.advance(1)
    assert house.actions().count("token.leak") == 1


def test_a_scanner_learns_whose_token_it_found_without_using_it() -> None:
    house = House()
    alice = house.user()
    new = house.tokens.create(alice.id, "laptop", TokenRole.READ)
    assert house.tokens.owner(new.value) == alice
    assert house.tokens.owner("hf_" + "a" * 36) is None
    assert house.tokens.get(alice.id, new.token.id).last_used_at is None


def test_what_happens_to_tokens_is_in_the_audit_trail_without_values() -> None:
    house = House()
    alice = house.user()
    new = house.tokens.create(alice.id, "laptop", TokenRole.READ)
    newer = house.tokens.refresh(alice.id, new.token.id)
    house.tokens.delete(alice.id, new.token.id)
    assert house.actions() == ["user.create", "token.create", "token.refresh", "token.delete"]
    assert {entry.actor_name for entry in house.audit.recent()} == {"alice"}
    for value in (new.value, newer.value):
        assert value not in repr(house.audit.recent())


def test_an_administrator_gets_no_more_from_a_read_token_than_reading() -> None:
    house = House()
    root = house.users.create("root_", "r@example.com", "correct horse", is_admin=True)
    new = house.tokens.create(root.id, "laptop", TokenRole.READ)
    assert not house.tokens.authenticate(new.value).may(Permission.REPO_WRITE)
    with house.database.read() as session:
        assert session.get_one(AccessTokenRow, new.token.id).role == "read"
