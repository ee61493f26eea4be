"""Numbers and moments, written for people."""

from datetime import UTC, datetime, timedelta

import pytest

from gatehouse.web.formats import full_time, human_ago, human_count, human_size, machine_time
from gatehouse.web.safe_paths import safe_path

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (1536, "1.5 kB"),
        (99_960, "100 kB"),
        (999_600, "1 MB"),
        (13_476_000_000, "13.5 GB"),
        (10**18, "1000 PB"),
    ],
)
def test_sizes(num_bytes: int, text: str) -> None:
    assert human_size(num_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "just now"),
        (44, "just now"),
        (59, "59 seconds ago"),
        (60, "1 minute ago"),
        (3 * 3600 + 5, "3 hours ago"),
        (86400 * 29, "29 days ago"),
        (86400 * 45, "1 month ago"),
        (86400 * 800, "2 years ago"),
    ],
)
def test_moments(seconds: int, text: str) -> None:
    assert human_ago(NOW - timedelta(seconds=seconds), NOW) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (12_345, "12.3k"), (4_000_000, "4M")]
)
def test_counts(number: int, text: str) -> None:
    assert human_count(number) == text


def test_times_are_given_in_utc() -> None:
    assert machine_time(NOW) == "2026-03-04T05:06:07Z"
    assert full_time(NOW) == "4 March 2026, 05:06 UTC"


@pytest.mark.parametrize("path", ["/", "/a/b?c=d#e", "/datasets/a/b"])
def test_paths_of_ours_are_kept(path: str) -> None:
    assert safe_path(path) == path


@pytest.mark.parametrize(
    "path",
    ["", "a", "//a", "/\\a", "/a\\b", "https://a", "/a b", "/\t/a", "/a\n", "/" + "a" * 2000],
)
def test_other_paths_are_not(path: str) -> None:
    assert safe_path(path) == "/"
