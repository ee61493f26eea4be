"""The checksum of token values, and the codes that people type."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatehouse.identity.token_values import (
    TOKEN_BYTES_PATTERN,
    TOKEN_PATTERN,
    checksum,
    looks_like_token,
    new_value,
)
from gatehouse.identity.user_codes import (
    ALPHABET,
    InvalidUserCode,
    new_user_code,
    parse_user_code,
)

_BASE62 = string.digits + string.ascii_letters
_BODIES = st.text(_BASE62, min_size=30, max_size=30)


def test_the_checksum_is_the_crc_in_base_62() -> None:
    # CRC-32 of "123456789" is 0xCBF43926 = 3421780262 by its definition.
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase
    number = 0
    for digit in checksum("123456789"):
        number = number * 62 + digits.index(digit)
    assert number == 0xCBF43926
    assert checksum("") == "000000"


@given(_BODIES)
def test_every_minted_shape_is_recognised(body: str) -> None:
    value = f"hf_{body}{checksum(f'hf_{body}')}"
    assert looks_like_token(value)
    assert TOKEN_PATTERN.findall(f"HF_TOKEN={value}\n") == [value]
    assert TOKEN_BYTES_PATTERN.findall(b'"' + value.encode() + b'"') == [value.encode()]


@given(_BODIES, st.integers(0, 35), st.sampled_from(_BASE62))
def test_one_mistyped_character_is_always_noticed(body: str, place: int, other: str) -> None:
    value = f"hf_{body}{checksum(f'hf_{body}')}"
    place += 3
    mistyped = value[:place] + other + value[place + 1 :]
    assert looks_like_token(mistyped) == (mistyped == value)


@given(_BODIES, st.integers(3, 37))
def test_two_swapped_neighbours_are_always_noticed(body: str, place: int) -> None:
    value = f"hf_{body}{checksum(f'hf_{body}')}"
    swapped = value[:place] + value[place + 1] + value[place] + value[place + 2 :]
    assert looks_like_token(swapped) == (swapped == value)


@given(st.text(max_size=60))
def test_any_text_is_judged_without_an_error(text: str) -> None:
    assert looks_like_token(text) in (True, False)
    assert not looks_like_token(text + "\n")


def test_a_longer_run_of_letters_holds_no_token() -> None:
    value = new_value()
    for text in (value + "A", "A" + value, value[:-1]):
        assert TOKEN_PATTERN.search(text) is None


def test_values_do_not_repeat() -> None:
    assert len({new_value() for _ in range(1000)}) == 1000


def _typed(code: str, cases: list[bool], gaps: list[str]) -> str:
    letters = code.replace("-", "")
    cased = [c if upper else c.lower() for c, upper in zip(letters, cases, strict=True)]
    return "".join(gap + c for gap, c in zip(gaps, cased, strict=True))


@given(
    st.text(ALPHABET, min_size=8, max_size=8),
    st.lists(st.booleans(), min_size=8, max_size=8),
    st.lists(st.sampled_from(["", " ", "-", "\N{EN DASH}", "  ", "\t"]), min_size=8, max_size=8),
)
def test_a_code_is_read_however_it_is_typed(
    letters: str, cases: list[bool], gaps: list[str]
) -> None:
    code = f"{letters[:4]}-{letters[4:]}"
    assert parse_user_code(_typed(code, cases, gaps)) == code


@given(st.text(max_size=100))
def test_any_typed_text_is_a_code_or_refused(text: str) -> None:
    try:
        code = parse_user_code(text)
    except InvalidUserCode:
        return
    assert parse_user_code(code) == code
    assert len(code) == 9


@pytest.mark.parametrize("text", ["", "BCDF", "BCDF-GHJKL", "BCDF-GHJA", "BCDF_GHJ0", "ß" * 4])
def test_what_cannot_be_a_code_is_refused(text: str) -> None:
    with pytest.raises(InvalidUserCode, match="`user_code`"):
        parse_user_code(text)


def test_new_codes_read_as_themselves() -> None:
    for _ in range(100):
        code = new_user_code()
        assert parse_user_code(code) == code
