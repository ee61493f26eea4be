"""Any range of any file is rebuilt from what its plan names, and the plan names nothing else."""

from hypothesis import given
from hypothesis import strategies as st
from xet_encoder import encode_xorb, xorb_hash
from xet_reader import reassemble

from gatehouse.storage.xet.compression import Scheme
from gatehouse.storage.xet.reconstruction import reconstruct
from gatehouse.storage.xet.shard import Segment
from gatehouse.storage.xet.xorb import parse_xorb

chunk_lists = st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=12)
schemes = st.lists(st.sampled_from(Scheme), min_size=1, max_size=4)


@given(st.lists(chunk_lists, min_size=1, max_size=4), schemes, st.data())
def test_any_range_of_any_file_is_rebuilt(
    xorbs: list[list[bytes]], how: list[Scheme], data: st.DataObject
) -> None:
    bodies = {xorb_hash(chunks): encode_xorb(chunks, how) for chunks in xorbs}
    tables = {name: parse_xorb(body)[1] for name, body in bodies.items()}
    segments: list[Segment] = []
    used: set[tuple[str, int]] = set()
    whole = b""
    for _ in range(data.draw(st.integers(1, 8), label="segments")):
        chunks = data.draw(st.sampled_from(xorbs), label="xorb")
        first = data.draw(st.integers(0, len(chunks) - 1), label="first chunk")
        last = data.draw(st.integers(first + 1, len(chunks)), label="end chunk")
        part, name = b"".join(chunks[first:last]), xorb_hash(chunks)
        segments.append(Segment(name, len(part), first, last))
        used |= {(name, number) for number in range(first, last)}
        whole += part
    start = data.draw(st.integers(0, len(whole) - 1), label="start")
    end = data.draw(st.integers(start + 1, len(whole)), label="end")

    max_size = data.draw(st.integers(1, 300), label="max term size")
    plan = reconstruct(segments, start, end, tables.__getitem__, max_term_size=max_size)

    found = reassemble(
        plan, end - start, lambda part: bodies[part.xorb_hash][part.start : part.end]
    )
    assert found == whole[start:end]
    fetched = [
        (part.xorb_hash, number)
        for part in plan.stored
        for number in range(part.start_chunk, part.end_chunk)
    ]
    assert len(fetched) == len(set(fetched))
    assert set(fetched) <= used
    # No term is there that holds none of the range.
    assert plan.offset < plan.terms[0].raw_length
    before_last = sum(term.raw_length for term in plan.terms[:-1])
    assert before_last < plan.offset + end - start
