"""The sums by which the response cache is bounded are those of what is in it, whatever was kept."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from gatehouse.inference.cache.answer_file import CachedAnswer
from gatehouse.inference.cache.answer_store import AnswerStore

MAX_BYTES = 20_000
MAX_ENTRIES = 16
KEPT = st.tuples(
    st.integers(0, 11), st.sampled_from("abc"), st.integers(0, 6000), st.floats(0, 1000)
)


@settings(max_examples=40, deadline=None)
@given(st.lists(KEPT, max_size=60))
def test_sums_are_those_of_the_answers(kept: list[tuple[int, str, int, float]]) -> None:
    now = 0.0
    with TemporaryDirectory() as folder:
        store = AnswerStore(Path(folder) / "x.db", MAX_BYTES, 3600.0, MAX_ENTRIES, lambda: now)
        for number, owner, size, pause in kept:
            store.keep(f"{number:064}", owner, CachedAnswer(b"x" * size, 1, 1, 1))
            now += pause
        connection = store._connect()
        counted = "SELECT owner, count(*), sum(num_bytes) FROM answers GROUP BY owner"
        found = dict.fromkeys([""], (0, 0)) | {
            owner: (entries, num_bytes) for owner, entries, num_bytes in connection.execute(counted)
        }
        found[""] = tuple(map(sum, zip(*found.values(), strict=True)))
        noted = {
            owner: (entries, num_bytes)
            for owner, entries, num_bytes in connection.execute("SELECT * FROM sums")
        }
        assert {"": (0, 0)} | noted == found
        assert noted.get("", (0, 0))[0] <= MAX_ENTRIES
        assert noted.get("", (0, 0))[1] <= MAX_BYTES
        assert store.count() == found[""]
        store.close()
