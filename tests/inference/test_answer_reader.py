"""What can be told of kept answers without waiting, and what is left to the store."""

from pathlib import Path

import pytest

from gatehouse.inference.cache.answer_file import CachedAnswer
from gatehouse.inference.cache.answer_reader import AnswerReader, Undecided
from gatehouse.inference.cache.answer_store import AnswerStore

KEY = "ab" * 32
ANSWER = CachedAnswer(b"text", 1, 2, 3)


class Shelf:
    """A store and a reader over one file, with a clock to be turned."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "answers.db"
        self.now = 1000.0
        self.store = AnswerStore(self.path, 10**6, 3600.0, 1000, lambda: self.now)
        self.reader = self.store.reader()

    def other_worker(self) -> AnswerStore:
        return AnswerStore(self.path, 10**6, 3600.0, 1000, lambda: self.now)

    def other_reader(self) -> AnswerReader:
        return AnswerReader(self.path, 3600.0, lambda: self.now)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_what_any_worker_keeps_is_found(shelf: Shelf) -> None:
    shelf.store.keep(KEY, "someone", ANSWER)
    assert shelf.reader.find(KEY) == ANSWER
    assert shelf.reader.find("cd" * 32) is None
    other = shelf.other_worker()
    other.keep("cd" * 32, "someone", ANSWER)
    other.keep(KEY, "someone", CachedAnswer(b"newer", 1, 2, 3))
    assert shelf.reader.find("cd" * 32) == ANSWER
    assert shelf.reader.find(KEY) == CachedAnswer(b"newer", 1, 2, 3)


def test_old_answer_is_none(shelf: Shelf) -> None:
    shelf.store.keep(KEY, "someone", ANSWER)
    shelf.now += 3601
    assert shelf.reader.find(KEY) is None


def test_use_that_has_to_be_written_down_is_left_to_the_store(shelf: Shelf) -> None:
    shelf.store.keep(KEY, "someone", ANSWER)
    shelf.now += 61
    with pytest.raises(Undecided):
        shelf.reader.find(KEY)
    assert shelf.store.find(KEY) == ANSWER
    assert shelf.reader.find(KEY) == ANSWER


def test_large_answer_is_left_to_the_store(shelf: Shelf) -> None:
    large = CachedAnswer(b"x" * 100_000, 1, 2, 3)
    shelf.store.keep(KEY, "someone", large)
    with pytest.raises(Undecided):
        shelf.reader.find(KEY)
    assert shelf.store.find(KEY) == large


def test_without_a_file_or_in_a_foreign_one_nothing_can_be_told(shelf: Shelf) -> None:
    with pytest.raises(Undecided):
        shelf.reader.find(KEY)
    assert not shelf.path.exists()
    shelf.path.write_bytes(b"no database" * 1000)
    with pytest.raises(Undecided):
        shelf.reader.find(KEY)


def test_file_that_was_begun_anew_is_read_anew(shelf: Shelf) -> None:
    shelf.store.keep(KEY, "someone", ANSWER)
    assert shelf.reader.find(KEY) == ANSWER
    shelf.store.close()
    for path in shelf.path.parent.iterdir():
        path.unlink()
    with pytest.raises(Undecided):
        shelf.reader.find(KEY)
    shelf.other_worker().keep(KEY, "someone", CachedAnswer(b"other", 1, 2, 3))
    assert shelf.reader.find(KEY) == CachedAnswer(b"other", 1, 2, 3)


def test_reader_cannot_write(shelf: Shelf) -> None:
    shelf.store.keep(KEY, "someone", ANSWER)
    reader = shelf.other_reader()
    reader.find(KEY)
    assert reader._connection is not None
    with pytest.raises(Exception, match="readonly"):
        reader._connection.execute("DELETE FROM answers")
    reader.close()
