import pytest
from identity_house import House

from gatehouse.core.errors import GatehouseError
from gatehouse.identity.device_flow import (
    AccessDenied,
    AuthorizationPending,
    DeviceCodeExpired,
    DeviceNotFound,
    InvalidClient,
    InvalidGrant,
    SlowDown,
)
from gatehouse.identity.permissions import Permission
from gatehouse.identity.tokens import InvalidToken, InvalidTokenRequest, TokenKind
from gatehouse.identity.user_codes import InvalidUserCode

_CLIENT = "a-public-client"
_DAY = 24 * 3600


def test_an_approved_device_gets_a_writing_token_once() -> None:
    house = House()
    alice = house.user()
    grant = house.device_flow.start(_CLIENT)
    assert (grant.interval, grant.expires_in) == (5, 900)
    with pytest.raises(AuthorizationPending):
        house.device_flow.poll(grant.device_code, _CLIENT)
    assert house.device_flow.pending(grant.user_code.lower()).client_id == _CLIENT
    house.device_flow.approve(grant.user_code.replace("-", " ").lower(), alice)
    issued = house.device_flow.poll(grant.device_code, _CLIENT)
    assert issued.expires_in == 30 * _DAY
    actor = house.tokens.authenticate(issued.access_token)
    assert actor.user == alice
    assert actor.may(Permission.REPO_WRITE)
    assert not actor.may(Permission.ACCOUNT_WRITE)
    (token,) = house.tokens.list(alice.id)
    assert token.kind is TokenKind.OAUTH
    with pytest.raises(InvalidGrant):
        house.device_flow.poll(grant.device_code, _CLIENT)


def test_a_hasty_client_is_slowed_down_by_five_seconds_each_time() -> None:
    house = House()
    grant = house.device_flow.start(_CLIENT)

    def poll() -> type[GatehouseError]:
        with pytest.raises(GatehouseError) as caught:
            house.device_flow.poll(grant.device_code, _CLIENT)
        return caught.type

    assert poll() is AuthorizationPending
    house.clock.advance(2)
    assert poll() is SlowDown
    house.clock.advance(5)
    assert poll() is SlowDown
    house.clock.advance(14.6)
    assert poll() is AuthorizationPending


def test_a_denied_device_gets_nothing() -> None:
    house = House()
    alice = house.user()
    grant = house.device_flow.start(_CLIENT)
    house.device_flow.deny(grant.user_code, alice)
    with pytest.raises(AccessDenied):
        house.device_flow.poll(grant.device_code, _CLIENT)
    with pytest.raises(DeviceNotFound):
        house.device_flow.approve(grant.user_code, alice)
    assert house.tokens.list(alice.id) == ()


def test_a_code_expires_for_client_and_person() -> None:
    house = House()
    alice = house.user()
    grant = house.device_flow.start(_CLIENT)
    house.clock.advance(900)
    with pytest.raises(DeviceNotFound):
        house.device_flow.approve(grant.user_code, alice)
    with pytest.raises(DeviceCodeExpired):
        house.device_flow.poll(grant.device_code, _CLIENT)
    house.clock.advance(2 * 3600)
    house.device_flow.start(_CLIENT)
    with pytest.raises(InvalidGrant):
        house.device_flow.poll(grant.device_code, _CLIENT)


def test_an_approval_that_comes_too_late_for_the_client_gives_nothing() -> None:
    house = House()
    grant = house.device_flow.start(_CLIENT)
    house.device_flow.approve(grant.user_code, house.user())
    house.clock.advance(900)
    with pytest.raises(DeviceCodeExpired):
        house.device_flow.poll(grant.device_code, _CLIENT)


def test_another_client_cannot_take_the_token() -> None:
    house = House()
    grant = house.device_flow.start(_CLIENT)
    house.device_flow.approve(grant.user_code, house.user())
    with pytest.raises(InvalidGrant):
        house.device_flow.poll(grant.device_code, "somebody-else")
    with pytest.raises(InvalidGrant):
        house.device_flow.poll("guess", _CLIENT)
    issued = house.device_flow.poll(grant.device_code, _CLIENT)
    with pytest.raises(InvalidGrant):
        house.device_flow.refresh(issued.refresh_token, "somebody-else")


def test_a_refresh_rotates_both_values() -> None:
    house = House()
    alice = house.user()
    grant = house.device_flow.start(_CLIENT)
    house.device_flow.approve(grant.user_code, alice)
    first = house.device_flow.poll(grant.device_code, _CLIENT)
    house.clock.advance(29 * _DAY)
    second = house.device_flow.refresh(first.refresh_token, _CLIENT)
    house.clock.advance(2 * _DAY)
    assert house.tokens.authenticate(second.access_token).user == alice
    with pytest.raises(InvalidToken):
        house.tokens.authenticate(first.access_token)
    with pytest.raises(InvalidGrant):
        house.device_flow.refresh(first.refresh_token, _CLIENT)
    with pytest.raises(InvalidGrant):
        house.device_flow.refresh(second.access_token, _CLIENT)
    assert len(house.tokens.list(alice.id)) == 1


def test_a_token_runs_out_but_can_be_refreshed_for_half_a_year() -> None:
    house = House()
    alice = house.user()
    grant = house.device_flow.start(_CLIENT)
    house.device_flow.approve(grant.user_code, alice)
    issued = house.device_flow.poll(grant.device_code, _CLIENT)
    house.clock.advance(30 * _DAY)
    with pytest.raises(InvalidToken):
        house.tokens.authenticate(issued.access_token)
    issued = house.device_flow.refresh(issued.refresh_token, _CLIENT)
    house.clock.advance(180 * _DAY)
    with pytest.raises(InvalidGrant):
        house.device_flow.refresh(issued.refresh_token, _CLIENT)


def test_a_deleted_sign_in_cannot_be_refreshed() -> None:
    house = House()
    alice = house.user()
    grant = house.device_flow.start(_CLIENT)
    house.device_flow.approve(grant.user_code, alice)
    issued = house.device_flow.poll(grant.device_code, _CLIENT)
    (token,) = house.tokens.list(alice.id)
    with pytest.raises(InvalidTokenRequest):
        house.tokens.refresh(alice.id, token.id)
    house.tokens.delete(alice.id, token.id)
    with pytest.raises(InvalidGrant):
        house.device_flow.refresh(issued.refresh_token, _CLIENT)


@pytest.mark.parametrize("client_id", ["", "x" * 201, "nul\x00"])
def test_a_bad_client_id_is_refused(client_id: str) -> None:
    with pytest.raises(InvalidClient, match="`client_id`"):
        House().device_flow.start(client_id)


def test_a_mistyped_code_and_an_unknown_one_are_told_apart() -> None:
    house = House()
    with pytest.raises(InvalidUserCode):
        house.device_flow.pending("AEIO-UAEI")
    with pytest.raises(DeviceNotFound):
        house.device_flow.pending("BCDF-GHJK")


def test_no_secret_of_the_flow_is_kept_or_shown() -> None:
    house = House()
    grant = house.device_flow.start(_CLIENT)
    assert grant.device_code not in repr(grant)
    assert grant.device_code not in house.dump()
    house.device_flow.approve(grant.user_code, house.user())
    issued = house.device_flow.poll(grant.device_code, _CLIENT)
    for value in (issued.access_token, issued.refresh_token):
        assert value not in repr(issued)
        assert value not in house.dump()
