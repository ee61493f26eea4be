"""What Xet clients do with a reconstruction: fetch stored ranges, decode chunks, join terms."""

import io
from collections.abc import Callable

from gatehouse.storage.xet.reconstruction import Reconstruction, StoredRange
from gatehouse.storage.xet.xorb import read_records

Fetch = Callable[[StoredRange], bytes]


def reassemble(plan: Reconstruction, length: int, fetch: Fetch) -> bytes:
    """The first `length` bytes of a range, out of exactly what the plan names."""
    chunks: dict[tuple[str, int], bytes] = {}
    for stored in plan.stored:
        body = fetch(stored)
        assert len(body) == stored.end - stored.start
        raws = [record.raw for record in read_records(io.BytesIO(body))]
        assert len(raws) == stored.end_chunk - stored.start_chunk
        for number, raw in enumerate(raws, stored.start_chunk):
            chunks[stored.xorb_hash, number] = raw
    whole = b""
    for term in plan.terms:
        numbers = range(term.start_chunk, term.end_chunk)
        part = b"".join(chunks[term.xorb_hash, number] for number in numbers)
        assert len(part) == term.raw_length
        whole += part
    # Clients check that nothing is missing at the end, and cut off what is too much.
    assert len(whole) >= plan.offset + length
    return whole[plan.offset : plan.offset + length]
