"""Too much of everything: bodies without a length, accounts, files out of nothing."""

from collections.abc import Iterator

import pytest
from factories import PASSWORD, Hub
from xet_encoder import draft_file, encode_shard, encode_xorb, xorb_hash

from gatehouse.core.errors import TooLarge
from gatehouse.repos.xet import Writer
from gatehouse.web.page_route import MAX_FORM_BYTES

_CHUNKS = [b"a" * 9000, b"b" * 9000]


def test_a_form_without_a_length_is_bounded_too(hub: Hub) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 100 * MAX_FORM_BYTES:
            sent += 1024
            yield b"a" * 1024

    # HTTP/2 has no `Transfer-Encoding`; the in-process client sends none either.
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Transfer-Encoding": ""}
    answer = hub.client.post("/login", content=endless(), headers=headers)
    assert answer.status_code == 413


def test_sign_ups_from_one_address_are_counted(hub: Hub) -> None:
    wrong = {"username": "x!", "email": "a@b.c", "password": PASSWORD}
    statuses = [hub.client.post("/join", data=wrong).status_code for _ in range(61)]
    assert statuses == [400] * 60 + [429]
    right = wrong | {"username": "ann"}
    assert hub.client.post("/join", data=right).status_code == 429


@pytest.mark.parametrize(("limit", "is_refused"), [(17_999, True), (18_000, False)])
def test_a_shard_cannot_make_a_file_over_the_limit(
    hub: Hub, tmp_path_factory: pytest.TempPathFactory, limit: int, *, is_refused: bool
) -> None:
    olivia = hub.make_user("olivia")
    repository = hub.make_repo(olivia, "model")
    xet = hub.services.xet
    xet._max_file_bytes = limit
    writer = Writer(olivia.actor, repository)
    xorb = tmp_path_factory.mktemp("xorb") / "xorb"
    xorb.write_bytes(encode_xorb(_CHUNKS))
    xet.put_xorb(writer, xorb_hash(_CHUNKS), xorb)
    shard = encode_shard([draft_file([_CHUNKS], [(0, 0, 2)])])
    if is_refused:
        before = hub.state()
        with pytest.raises(TooLarge, match="larger than 17999 bytes"):
            xet.put_shard(writer, shard, lambda *_: None)
        assert hub.state() == before
    else:
        assert xet.put_shard(writer, shard, lambda *_: None)
