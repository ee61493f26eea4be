"""Addresses, headers and file names from strangers come through whole, or not at all."""

from urllib.parse import quote, unquote

from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from gatehouse.http.addresses import split_revision
from gatehouse.http.downloads import content_disposition, send_bytes
from gatehouse.http.errors import header_safe
from gatehouse.http.raw_path import _decode, decoded

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
_content = st.binary(max_size=40)


@given(_text)
def test_a_path_arrives_as_it_was_before_it_was_encoded(text: str) -> None:
    assert decoded(_decode(quote(text, safe="").encode())) == text
    assert decoded(_decode(quote(text, safe="/").encode())) == text


@given(_text)
def test_an_encoded_slash_stays_inside_its_segment(text: str) -> None:
    assert "/" not in _decode(quote(text, safe="").encode())


@given(st.binary(max_size=60))
def test_any_bytes_are_decoded_once(raw: bytes) -> None:
    assert decoded(_decode(raw)) == unquote(raw.decode("latin-1"), "latin-1").encode(
        "latin-1"
    ).decode("utf-8", "replace")


@given(_text.filter(lambda text: not text.startswith("refs/")), _text)
def test_a_revision_and_a_path_come_apart_where_they_were_joined(revision: str, path: str) -> None:
    joined = f"{quote(revision, safe='')}/{quote(path, safe='/')}"
    assert split_revision(_decode(joined.encode())) == (revision, path)


@given(st.integers(0, 10**6), _text)
def test_an_unencoded_pull_request_is_a_revision(number: int, path: str) -> None:
    joined = f"refs/pr/{number}/{quote(path, safe='/')}"
    assert split_revision(_decode(joined.encode())) == (f"refs/pr/{number}", path)


@given(st.text())
def test_any_text_is_a_revision_and_a_path(rest: str) -> None:
    revision, path = split_revision(rest)
    assert isinstance(revision, str)
    assert isinstance(path, str)


@given(st.text())
def test_no_text_leaves_its_header(text: str) -> None:
    for value in (header_safe(text), content_disposition(text)):
        assert value.isascii()
        assert value == "" or value.isprintable()
    assert content_disposition(text).count('"') == 2


def _request(method: str, **headers: str) -> Request:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": method, "headers": pairs})


@given(_content, st.text("bytes=-0123456789, ", max_size=20), st.sampled_from(["GET", "HEAD"]))
def test_any_range_is_a_part_the_whole_or_nothing(content: bytes, asked: str, method: str) -> None:
    answer = send_bytes(_request(method, range=asked), content, {"ETag": '"x"'})
    expected = {200: content, 416: b""}.get(answer.status_code)
    if answer.status_code == 206:
        span, _, total = answer.headers["content-range"].removeprefix("bytes ").partition("/")
        first, last = map(int, span.split("-"))
        assert int(total) == len(content)
        expected = content[first : last + 1]
    assert expected is not None
    assert answer.headers["content-length"] == str(len(expected))
    assert answer.body == (b"" if method == "HEAD" else expected)


@given(_content, st.integers(0, 50), st.integers(0, 50))
def test_a_range_inside_the_file_is_exactly_that(content: bytes, first: int, last: int) -> None:
    answer = send_bytes(_request("GET", range=f"bytes={first}-{last}"), content, {})
    if first <= last and first < len(content):
        assert (answer.status_code, answer.body) == (206, content[first : last + 1])
