"""The bytes of a file over HTTP: whole, in parts, unchanged, and never anything else."""

import pytest
from factories import Hub
from starlette.testclient import TestClient

from gatehouse.http.downloads import content_disposition

_CONTENT = bytes(range(256)) * 8
_SIZE = len(_CONTENT)


@pytest.fixture
def client(hub: Hub) -> TestClient:
    """`small.bin` lies in git, `large.safetensors` beside it; `empty` has no bytes."""
    hub.make_repo(
        hub.make_user("olivia"),
        "model",
        files={"small.bin": _CONTENT, "empty": b"", "page.html": b"<script>alert(1)</script>"},
        large_files={"large.safetensors": _CONTENT, "nothing.safetensors": b""},
    )
    return hub.client


def url(path: str) -> str:
    return f"/olivia/model/resolve/main/{path}"


@pytest.mark.parametrize("path", ["small.bin", "large.safetensors", "empty"])
def test_head_says_what_get_says(client: TestClient, path: str) -> None:
    get, head = client.get(url(path)), client.head(url(path))
    assert head.content == b""
    assert head.status_code == get.status_code == 200
    names = ("content-length", "content-type", "etag", "x-repo-commit", "x-linked-size")
    assert [head.headers.get(name) for name in names] == [get.headers.get(name) for name in names]
    assert int(head.headers["content-length"]) == len(get.content)


@pytest.mark.parametrize("path", ["small.bin", "large.safetensors"])
def test_the_whole_file_is_never_compressed(client: TestClient, path: str) -> None:
    answer = client.get(url(path), headers={"Accept-Encoding": "gzip, deflate, br, zstd"})
    assert answer.status_code == 200
    assert "content-encoding" not in answer.headers
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.content == _CONTENT


@pytest.mark.parametrize("path", ["small.bin", "large.safetensors"])
@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-9", 5, 10),
        ("bytes=100-", 100, _SIZE),
        ("bytes=-7", _SIZE - 7, _SIZE),
        ("bytes=0-999999", 0, _SIZE),
        ("bytes=-999999", 0, _SIZE),
    ],
)
def test_a_range_is_that_part(
    client: TestClient, path: str, asked: str, start: int, end: int
) -> None:
    answer = client.get(url(path), headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{_SIZE}"
    assert answer.headers["content-length"] == str(end - start)
    assert answer.content == _CONTENT[start:end]


@pytest.mark.parametrize("path", ["small.bin", "large.safetensors"])
@pytest.mark.parametrize("asked", [f"bytes={_SIZE}-", f"bytes={_SIZE + 5}-{_SIZE + 9}"])
def test_a_range_behind_the_end_is_416(client: TestClient, path: str, asked: str) -> None:
    answer = client.get(url(path), headers={"Range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{_SIZE}"
    assert _CONTENT[:40] not in answer.content


@pytest.mark.parametrize("path", ["small.bin", "large.safetensors"])
@pytest.mark.parametrize("asked", ["bytes=", "bytes=-", "bytes=a-b", "bytes=9-5", "lines=0-1"])
def test_a_range_that_is_none_is_ignored_or_refused(
    client: TestClient, path: str, asked: str
) -> None:
    answer = client.get(url(path), headers={"Range": asked})
    assert answer.status_code in (200, 400)
    assert answer.status_code == 400 or answer.content == _CONTENT


@pytest.mark.parametrize("path", ["small.bin", "large.safetensors"])
def test_a_range_with_thousands_of_digits_does_not_break_the_server(
    client: TestClient, path: str
) -> None:
    answer = client.get(url(path), headers={"Range": f"bytes={'9' * 5000}-"})
    assert answer.status_code in (200, 400, 416)


@pytest.mark.parametrize("path", ["small.bin", "large.safetensors"])
def test_a_part_is_sent_only_of_the_file_the_client_began(client: TestClient, path: str) -> None:
    etag = client.head(url(path)).headers["etag"]
    same = client.get(url(path), headers={"Range": "bytes=5-9", "If-Range": etag})
    other = client.get(url(path), headers={"Range": "bytes=5-9", "If-Range": '"other"'})
    assert (same.status_code, same.content) == (206, _CONTENT[5:10])
    assert (other.status_code, other.content) == (200, _CONTENT)


@pytest.mark.parametrize("path", ["small.bin", "large.safetensors", "empty"])
@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
def test_what_the_client_has_already_is_not_sent_again(
    client: TestClient, path: str, form: str
) -> None:
    etag = client.head(url(path)).headers["etag"]
    answer = client.get(url(path), headers={"If-None-Match": form.format(etag)})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == etag
    changed = client.get(url(path), headers={"If-None-Match": '"other"'})
    assert changed.status_code == 200


@pytest.mark.parametrize("path", ["empty", "nothing.safetensors"])
def test_an_empty_file_is_there_for_browser_clients_that_probe(
    client: TestClient, path: str
) -> None:
    answer = client.get(url(path), headers={"Range": "bytes=0-0"})
    assert answer.status_code == 206
    assert answer.headers["content-range"] == "bytes 0-0/0"
    assert answer.content == b""


@pytest.mark.parametrize("path", ["small.bin", "large.safetensors", "page.html"])
def test_user_content_cannot_run_in_our_origin(client: TestClient, path: str) -> None:
    for address in (url(path), url(path).replace("/resolve/", "/raw/")):
        headers = client.get(address).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in headers["content-security-policy"]
        assert "html" not in headers["content-type"]


def test_caches_ask_again_and_keep_readers_apart(client: TestClient) -> None:
    headers = client.get(url("large.safetensors")).headers
    assert headers["cache-control"] == "private, no-cache"
    assert headers["vary"] == "Authorization, Cookie"


def test_the_time_of_a_shared_blob_tells_nothing(hub: Hub, client: TestClient) -> None:
    """Another upload of the same bytes must not show at a file somebody else watches."""
    before = client.head(url("large.safetensors")).headers["last-modified"]
    mallory = hub.make_user("mallory")
    hub.make_repo(mallory, "other", private=True, large_files={"b.safetensors": _CONTENT})
    assert client.head(url("large.safetensors")).headers["last-modified"] == before
    assert before.endswith("1970 00:00:00 GMT")


def test_raw_shows_the_pointer_and_resolve_the_file(client: TestClient) -> None:
    raw = client.get("/olivia/model/raw/main/large.safetensors")
    assert raw.text.startswith("version https://git-lfs.github.com/spec/v1\n")
    assert f"size {_SIZE}\n" in raw.text


def test_a_download_is_counted_when_the_client_says_it_is_one(hub: Hub, client: TestClient) -> None:
    counting = {"X-HF-Download-Counter": "1"}
    client.get(url("small.bin"), headers=counting)
    client.get(url("small.bin"))
    client.head(url("small.bin"), headers=counting)
    hub.services.download_counts.flush()
    assert client.get("/api/models/olivia/model").json()["downloads"] == 1


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("model.bin", "model.bin"),
        ('a"b.bin', "ab.bin"),
        ("a\\b.bin", "ab.bin"),
        ("a\r\nSet-Cookie: x=1", "a??Set-Cookie: x=1"),
        ("é.bin", "?.bin"),
        ("\x00\x7f", "??"),
    ],
)
def test_a_file_name_cannot_leave_its_header(name: str, plain: str) -> None:
    value = content_disposition(name)
    assert value.endswith(f'filename="{plain}";')
    assert value.isascii()
    assert value.isprintable()
