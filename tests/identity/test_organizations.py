import pytest
from identity_house import House

from gatehouse.identity.accounts import InvalidName, NameTaken
from gatehouse.identity.actors import Actor, OrganizationRole
from gatehouse.identity.organizations import (
    AlreadyMember,
    LastAdmin,
    MemberNotFound,
    OrganizationNotFound,
)


def test_the_owner_administers_and_an_added_member_has_their_role() -> None:
    house = House()
    alice, bob = house.user("alice"), house.user("bob")
    acme = house.organizations.create("meta-llama", "Meta Llama", alice)
    house.organizations.add_member("META-LLAMA", bob, OrganizationRole.WRITE, by=Actor(alice))
    alice, bob = house.users.by_name("alice"), house.users.by_name("bob")
    assert Actor(alice).role_in(acme.id) is OrganizationRole.ADMIN
    assert Actor(bob).role_in(acme.id) is OrganizationRole.WRITE
    assert [m.organization_name for m in bob.memberships] == ["meta-llama"]
    assert [(m.name, m.role) for m in house.organizations.by_name("meta-llama").members] == [
        ("alice", OrganizationRole.ADMIN),
        ("bob", OrganizationRole.WRITE),
    ]


def test_a_removed_member_has_no_role() -> None:
    house = House()
    alice, bob = house.user("alice"), house.user("bob")
    acme = house.organizations.create("acme", "", alice)
    house.organizations.add_member("acme", bob, OrganizationRole.READ, by=Actor(alice))
    house.organizations.remove_member("acme", bob, by=Actor(alice))
    assert Actor(house.users.by_name("bob")).role_in(acme.id) is None
    with pytest.raises(MemberNotFound):
        house.organizations.remove_member("acme", bob, by=Actor(alice))


def test_the_last_administrator_stays() -> None:
    house = House()
    alice, bob = house.user("alice"), house.user("bob")
    house.organizations.create("acme", "", alice)
    house.organizations.add_member("acme", bob, OrganizationRole.WRITE, by=Actor(alice))
    with pytest.raises(LastAdmin):
        house.organizations.remove_member("acme", alice, by=Actor(alice))


def test_nobody_joins_twice_and_bad_names_make_nothing() -> None:
    house = House()
    alice = house.user("alice")
    house.organizations.create("acme", "", alice)
    with pytest.raises(AlreadyMember):
        house.organizations.add_member("acme", alice, OrganizationRole.READ, by=Actor(alice))
    with pytest.raises(NameTaken):
        house.organizations.create("Alice", "", alice)
    with pytest.raises(InvalidName):
        house.organizations.create("models", "", alice)
    with pytest.raises(OrganizationNotFound):
        house.organizations.by_name("alice")
