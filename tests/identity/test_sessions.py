from identity_house import House

from gatehouse.identity.permissions import Permission
from gatehouse.identity.sessions import csrf_token, is_csrf_token

_DAY = 24 * 3600


def test_a_session_speaks_for_its_user_and_may_change_the_account() -> None:
    house = House()
    alice = house.user()
    actor = house.sessions.authenticate(house.sessions.start(alice, "Firefox"))
    assert actor is not None
    assert actor.user == alice
    assert actor.session_id is not None
    assert actor.may(Permission.ACCOUNT_WRITE)


def test_an_unknown_cookie_is_nobody() -> None:
    house = House()
    house.sessions.start(house.user())
    for value in ("", "x", "\ud800", "é" * 5000):
        assert house.sessions.authenticate(value) is None


def test_the_database_does_not_hold_the_cookie() -> None:
    house = House()
    value = house.sessions.start(house.user())
    assert value not in house.dump()
    actor = house.sessions.authenticate(value)
    assert actor is not None
    assert house.sessions.authenticate(str(actor.session_id)) is None


def test_signing_out_ends_this_session_only_and_everywhere_ends_all() -> None:
    house = House()
    alice = house.user()
    first, second = house.sessions.start(alice), house.sessions.start(alice)
    house.sessions.end(first)
    assert house.sessions.authenticate(first) is None
    assert house.sessions.authenticate(second) is not None
    house.sessions.end_all(alice)
    assert house.sessions.authenticate(second) is None


def test_a_session_lives_thirty_days_after_its_last_use() -> None:
    house = House()
    value = house.sessions.start(house.user())
    for _ in range(3):
        house.clock.advance(29 * _DAY)
        assert house.sessions.authenticate(value) is not None
    house.clock.advance(30 * _DAY)
    assert house.sessions.authenticate(value) is None


def test_expired_sessions_are_cleared_away() -> None:
    house = House()
    alice = house.user()
    house.sessions.start(alice, "an old browser")
    house.clock.advance(31 * _DAY)
    house.sessions.start(alice, "a new browser")
    assert "an old browser" not in house.dump()


def test_a_strange_user_agent_is_cut_to_what_can_be_shown() -> None:
    house = House()
    house.sessions.start(house.user(), "agent\x00\x1b" + "x" * 1000)
    assert "agentxxx" in house.dump()
    assert "x" * 301 not in house.dump()


def test_a_form_is_bound_to_its_session() -> None:
    house = House()
    alice = house.user()
    mine, other = house.sessions.start(alice), house.sessions.start(alice)
    assert is_csrf_token(mine, csrf_token(mine))
    assert not is_csrf_token(mine, csrf_token(other))
    assert not is_csrf_token(mine, "")
    assert not is_csrf_token(mine, "\ud800é")
    assert mine not in csrf_token(mine)
