from hypothesis import given
from hypothesis import strategies as st

from gatehouse.storage.lfs.pointer import POINTER_SIZE_LIMIT, Pointer, parse_pointer

digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
pointers = st.builds(Pointer, oid=digests, size=st.integers(0, 2**63 - 1))


@given(pointers)
def test_what_is_written_is_read(pointer: Pointer) -> None:
    assert parse_pointer(pointer.to_bytes()) == pointer


@given(st.binary(max_size=2 * POINTER_SIZE_LIMIT))
def test_arbitrary_bytes_are_a_pointer_only_in_canonical_form(data: bytes) -> None:
    pointer = parse_pointer(data)
    assert pointer is None or pointer.to_bytes() == data


@given(pointers, st.data())
def test_a_changed_byte_gives_another_pointer_or_none(
    pointer: Pointer, data: st.DataObject
) -> None:
    text = bytearray(pointer.to_bytes())
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] = data.draw(st.integers(0, 255).filter(lambda value: value != text[at]))
    changed = parse_pointer(bytes(text))
    assert changed is None or (changed != pointer and changed.to_bytes() == text)


@given(pointers, st.lists(st.tuples(st.integers(0, 9), digests), max_size=20))
def test_extensions_change_nothing_below_the_limit(
    pointer: Pointer, extensions: list[tuple[int, str]]
) -> None:
    version, rest = pointer.to_bytes().split(b"\n", 1)
    lines = "".join(f"ext-{order}-case sha256:{oid}\n" for order, oid in extensions).encode()
    text = version + b"\n" + lines + rest
    assert parse_pointer(text) == (pointer if len(text) < POINTER_SIZE_LIMIT else None)
