import unicodedata
from typing import Literal

import pytest
from argon2 import PasswordHasher
from identity_house import quick_passwords

from gatehouse.identity.passwords import InvalidPassword, Passwords


def test_a_password_verifies_against_its_own_hash_only() -> None:
    passwords = quick_passwords()
    kept = passwords.hash("correct horse")
    assert passwords.verify("correct horse", kept)
    assert not passwords.verify("correct horsf", kept)
    assert not passwords.verify("", kept)


def test_the_same_password_never_gives_the_same_hash() -> None:
    passwords = quick_passwords()
    assert passwords.hash("correct horse") != passwords.hash("correct horse")


@pytest.mark.parametrize("password", ["", "1234567", "x" * 1025])
def test_a_password_of_bad_length_is_refused_with_the_rule(password: str) -> None:
    with pytest.raises(InvalidPassword, match="8 to 1024 characters") as caught:
        quick_passwords().hash(password)
    assert not password or password not in str(caught.value)


def test_nobody_has_a_password() -> None:
    passwords = quick_passwords()
    assert not passwords.verify("nobody has this password", None)
    assert not passwords.verify("correct horse", None)


class _WatchedHasher(PasswordHasher):
    """Notes how long each password is that it is asked to verify."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.lengths: list[int] = []

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002
        self.lengths.append(len(password))
        return super().verify(hash, password)


def test_an_unknown_user_costs_one_hash_as_a_known_one_does() -> None:
    hasher = _WatchedHasher()
    passwords = Passwords(hasher)
    for kept in (None, passwords.hash("correct horse")):
        hasher.lengths.clear()
        passwords.verify("wrong horse", kept)
        assert hasher.lengths == [len("wrong horse")]


def test_an_endless_password_is_wrong_without_being_hashed_whole() -> None:
    hasher = _WatchedHasher()
    passwords = Passwords(hasher)
    assert not passwords.verify("x" * 10_000_000, passwords.hash("correct horse"))
    assert hasher.lengths == [0]


def test_accents_compare_equal_however_they_were_composed() -> None:
    passwords = quick_passwords()
    kept = passwords.hash(unicodedata.normalize("NFC", "crème brûlée"))
    assert passwords.verify(unicodedata.normalize("NFD", "crème brûlée"), kept)


def test_a_lone_surrogate_is_a_password_like_any_other() -> None:
    passwords = quick_passwords()
    assert passwords.verify("surrogate\ud800", passwords.hash("surrogate\ud800"))


def test_a_damaged_hash_fits_nothing() -> None:
    assert not quick_passwords().verify("correct horse", "$argon2id$damaged")
