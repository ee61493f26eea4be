"""Bytes from git clients: whatever they are, they are read as specified or refused as invalid."""

import gzip
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatehouse.storage.git.errors import InvalidWire, RequestTooLarge
from gatehouse.storage.git.pkt_line import (
    FLUSH,
    MAX_COMMANDS,
    MAX_PAYLOAD_BYTES,
    decode,
    encode,
    parse_commands,
    parse_update,
)
from gatehouse.storage.git.records import RefUpdate
from gatehouse.storage.git.request_body import BodyDecoder

oids = st.from_regex(r"[0-9a-f]{40}", fullmatch=True).filter(lambda oid: oid != "0" * 40)
refs = st.text(min_size=1, max_size=60).filter(
    lambda ref: "\0" not in ref and not ref.endswith("\n") and ref.isprintable()
)
updates = st.builds(RefUpdate, refs, st.none() | oids, st.none() | oids)


def to_line(update: RefUpdate) -> str:
    return f"{update.old_oid or '0' * 40} {update.new_oid or '0' * 40} {update.ref}"


@given(st.binary(max_size=2000), st.binary(max_size=50))
def test_what_is_encoded_is_decoded(payload: bytes, rest: bytes) -> None:
    line = encode(payload)
    assert decode(line + rest) == (payload, len(line))
    assert decode(b"xy" + line, 2) == (payload, len(line) + 2)


@given(st.binary(max_size=200) | st.from_regex(rb"[0-9a-f]{4}[\s\S]{0,40}", fullmatch=True))
def test_any_bytes_decode_or_are_invalid(data: bytes) -> None:
    try:
        payload, end = decode(data)
    except InvalidWire:
        return
    if payload is None:
        assert data[:4] == FLUSH
        assert end == 4
    else:
        assert encode(payload).lower() == data[:end].lower() or data[:4] != data[:4].lower()
        assert end <= len(data)


@pytest.mark.parametrize(
    "head", [b"0001", b"0002", b"0003", b"fff1", b"ffff", b"+004", b" 004", b"0x05"]
)
def test_lengths_that_no_line_has_are_invalid(head: bytes) -> None:
    with pytest.raises(InvalidWire):
        decode(head + b"x" * 70000)


def test_a_line_has_a_longest_length() -> None:
    longest = b"x" * MAX_PAYLOAD_BYTES
    assert decode(encode(longest)) == (longest, MAX_PAYLOAD_BYTES + 4)
    with pytest.raises(InvalidWire):
        encode(longest + b"x")


@given(st.binary(max_size=400))
def test_any_bytes_are_a_command_list_or_invalid(data: bytes) -> None:
    with suppress(InvalidWire):
        commands = parse_commands(data)
        assert commands.num_bytes <= len(data)
        assert data[: commands.num_bytes].endswith(FLUSH)


@given(st.lists(st.binary(max_size=130), max_size=4))
def test_any_lines_are_a_command_list_or_invalid(lines: list[bytes]) -> None:
    with suppress(InvalidWire):
        parse_commands(b"".join(map(encode, lines)) + FLUSH)


@given(
    st.lists(updates, max_size=8, unique_by=lambda update: update.ref),
    st.frozensets(st.sampled_from(["report-status", "side-band-64k", "agent=git/2.39"])),
    st.booleans(),
    st.binary(max_size=50),
)
def test_a_command_list_is_read_back(
    asked: list[RefUpdate], capabilities: frozenset[str], is_shallow: bool, pack: bytes
) -> None:
    lines = [to_line(update).encode() + b"\n" for update in asked]
    if lines:
        lines[0] = lines[0].rstrip(b"\n") + b"\0" + " ".join(capabilities).encode() + b"\n"
    head = encode(b"shallow " + b"1" * 40) if is_shallow else b""
    data = head + b"".join(map(encode, lines)) + FLUSH
    commands = parse_commands(data + pack)
    assert commands.updates == tuple(asked)
    assert commands.capabilities == (capabilities if asked else frozenset())
    assert commands.num_bytes == len(data)


@given(updates)
def test_an_update_is_read_back(update: RefUpdate) -> None:
    assert parse_update(to_line(update)) == update


def test_too_many_commands_and_the_same_ref_twice_are_invalid() -> None:
    def command(number: int) -> bytes:
        return encode(to_line(RefUpdate(f"refs/heads/{number}", None, "1" * 40)).encode())

    fitting = b"".join(map(command, range(MAX_COMMANDS)))
    assert len(parse_commands(fitting + FLUSH).updates) == MAX_COMMANDS
    with pytest.raises(InvalidWire, match="at most"):
        parse_commands(fitting + command(MAX_COMMANDS) + FLUSH)
    with pytest.raises(InvalidWire, match="twice"):
        parse_commands(command(1) + command(1) + FLUSH)


@given(st.binary(max_size=3000), st.integers(1, 40))
def test_gzip_in_any_pieces_comes_out_whole(data: bytes, step: int) -> None:
    packed = gzip.compress(data)
    decoder = BodyDecoder("gzip", limit=3000)
    pieces = [packed[i : i + step] for i in range(0, len(packed), step)]
    assert b"".join(out for piece in pieces for out in decoder.feed(piece)) == data
    decoder.finish()


@given(st.binary(max_size=300), st.sampled_from(["gzip", "x-gzip", None]), st.integers(0, 200))
def test_any_body_is_decoded_within_its_limit_or_refused(
    data: bytes, encoding: str | None, limit: int
) -> None:
    decoder = BodyDecoder(encoding, limit)
    with suppress(InvalidWire, RequestTooLarge):
        size = sum(len(piece) for piece in decoder.feed(data))
        decoder.finish()
        assert size <= limit
