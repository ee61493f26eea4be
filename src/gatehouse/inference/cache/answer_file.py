"""What is in the file of kept answers, for those who write it and those who only read it."""

from pathlib import Path

import msgspec

SCHEMA_VERSION = 2
# What is bounded is summed up as it comes and goes: counting ten thousand rows for each answer that
# is kept would take a millisecond. The sum of all is under the owner that nobody is.
EVERYBODY = ""
SCHEMA = """
CREATE TABLE answers (
    key TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    answer BLOB NOT NULL,
    num_bytes INTEGER NOT NULL,
    stored_at REAL NOT NULL,
    last_used REAL NOT NULL
);
CREATE INDEX by_owner ON answers (owner, last_used, num_bytes);
CREATE INDEX by_use ON answers (last_used, num_bytes);
CREATE INDEX by_age ON answers (stored_at);
CREATE TABLE sums (
    owner TEXT PRIMARY KEY,
    num_entries INTEGER NOT NULL,
    num_bytes INTEGER NOT NULL
);
CREATE TRIGGER kept AFTER INSERT ON answers BEGIN
    INSERT INTO sums VALUES (new.owner, 1, new.num_bytes), ('', 1, new.num_bytes)
    ON CONFLICT (owner) DO UPDATE SET
        num_entries = sums.num_entries + 1,
        num_bytes = sums.num_bytes + excluded.num_bytes;
END;
CREATE TRIGGER gone AFTER DELETE ON answers BEGIN
    UPDATE sums SET
        num_entries = num_entries - 1,
        num_bytes = num_bytes - old.num_bytes
    WHERE owner IN (old.owner, '');
    DELETE FROM sums WHERE owner = old.owner AND num_entries = 0;
END;
"""
# An entry's last use is written down only this often: reading is then reading.
TOUCH_SECONDS = 60.0
# Clocks of a machine that was set back must not make entries immortal.
CLOCK_SLACK_SECONDS = 60.0


class CachedAnswer(msgspec.Struct, frozen=True, array_like=True):
    """A whole answer. It holds nothing about who asked.

    Attributes:
        body: As it goes over the wire.
        num_characters: Of the input, where it is one text.
    """

    body: bytes
    num_characters: int | None
    num_prompt_tokens: int
    num_generated_tokens: int
    content_type: str = "application/json"


_decoder = msgspec.msgpack.Decoder(CachedAnswer)


def decode_answer(data: bytes) -> CachedAnswer:
    """An answer as it was kept.

    Raises:
        msgspec.MsgspecError: It is something else.
    """
    return _decoder.decode(data)


def is_current(stored_at: float, now: float, max_age_seconds: float) -> bool:
    """Whether an answer that was stored then may still be given."""
    return -CLOCK_SLACK_SECONDS <= now - stored_at <= max_age_seconds


def inode(path: Path) -> int:
    """Tells a file from the one that took its place; 0 if there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0
