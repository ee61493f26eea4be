"""What strangers send to the drop-in listener: passed on whole, or refused, whatever the cuts."""

import contextlib

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatehouse.server.drop_in.connect import ConnectRefused, read_connect
from gatehouse.server.drop_in.request_relay import RequestRefused, RequestRelay

NAMES = ("huggingface.co", "router.huggingface.co")
TOKEN = st.text("abcdefghijklmnop-", min_size=1, max_size=12)
HEADERS = st.dictionaries(
    TOKEN.map(lambda name: f"a-{name}"), st.text("xyz 0123456789;=", max_size=20), max_size=4
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, dict[str, str], bytes]:
    """One request as bytes, its own headers, and its body."""
    headers = draw(HEADERS)
    body = draw(st.binary(max_size=300))
    lines = ["POST /models/a%2Fb?x=1 HTTP/1.1", f"Host: {draw(st.sampled_from(NAMES))}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if draw(st.booleans()):
        lines.append("Transfer-Encoding: chunked")
        half = len(body) // 2
        parts = [part for part in (body[:half], body[half:]) if part]
        sent = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    else:
        lines.append(f"Content-Length: {len(body)}")
        sent = body
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + sent, headers, body


@given(st.lists(requests(), min_size=1, max_size=4), st.data())
def test_requests_arrive_whole_however_they_are_cut(
    sent: list[tuple[bytes, dict[str, str], bytes]], data: st.DataObject
) -> None:
    stream = b"".join(item[0] for item in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    relay = RequestRelay(NAMES, "10.1.2.3")
    relayed = b""
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        if start < end:
            relayed += relay.feed(stream[start:end])
    assert not relay.is_in_head
    for _, headers, body in sent:
        found, found_body, relayed = read_one(relayed)
        assert all(found[name] == value.strip() for name, value in headers.items())
        assert found["x-forwarded-for"] == "10.1.2.3"
        assert found_body == body
    assert relayed == b""


def read_one(data: bytes) -> tuple[dict[str, str], bytes, bytes]:
    """The headers and the body of the first request, and what follows it."""
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(data)
    headers: dict[str, str] = {}
    body = b""
    while True:
        event = reader.next_event()
        if isinstance(event, h11.Request):
            headers = {name.decode(): value.decode() for name, value in event.headers}
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        else:
            assert isinstance(event, h11.EndOfMessage)
            return headers, body, bytes(reader.trailing_data[0])


@pytest.mark.parametrize(
    "name",
    ["X-Forwarded-For", "X-Forwarded-Host", "x-forwarded-proto", "Forwarded", "X-Real-IP", "Via"],
)
def test_nobody_says_where_they_come_from(name: str) -> None:
    relay = RequestRelay(NAMES, "10.1.2.3")
    head = f"GET / HTTP/1.1\r\nHost: huggingface.co\r\n{name}: 1.1.1.1\r\n\r\n"
    relayed = relay.feed(head.encode()).decode().lower()
    assert "1.1.1.1" not in relayed
    assert "x-forwarded-for: 10.1.2.3" in relayed


@pytest.mark.parametrize(
    "head",
    [
        "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: huggingface.co:80\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: huggingface.co\r\nHost: evil.example\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET https://huggingface.co/ HTTP/1.1\r\nHost: huggingface.co\r\n\r\n",
        "CONNECT evil.example:443 HTTP/1.1\r\nHost: huggingface.co\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: huggingface.co\r\nX:" + "a" * 70_000,
    ],
)
def test_a_request_for_elsewhere_ends_the_connection(head: str) -> None:
    with pytest.raises(RequestRefused):
        RequestRelay(NAMES, "10.1.2.3").feed(head.encode())


def test_a_length_beside_chunks_is_not_passed_on() -> None:
    head = (
        b"POST / HTTP/1.1\r\nHost: huggingface.co\r\nContent-Length: 3\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    )
    with contextlib.suppress(RequestRefused):
        relayed = RequestRelay(NAMES, "10.1.2.3").feed(head)
        assert b"content-length" not in relayed.lower()


@given(st.binary(max_size=400))
def test_foreign_bytes_are_refused_or_wait_for_more(data: bytes) -> None:
    with contextlib.suppress(RequestRefused):
        RequestRelay(NAMES, "10.1.2.3").feed(data)


@given(st.binary(max_size=200))
def test_no_foreign_head_opens_a_tunnel(head: bytes) -> None:
    with pytest.raises(ConnectRefused):
        read_connect(head, NAMES)


@pytest.mark.parametrize(
    ("line", "host"),
    [
        (b"CONNECT huggingface.co:443 HTTP/1.1", "huggingface.co"),
        (b"CONNECT Router.HuggingFace.co.:443 HTTP/1.1\r\nHost: x", "router.huggingface.co"),
    ],
)
def test_the_names_are_led_to(line: bytes, host: str) -> None:
    assert read_connect(line, NAMES) == host


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"CONNECT huggingface.co:80 HTTP/1.1", "403"),
        (b"CONNECT huggingface.co:4430 HTTP/1.1", "403"),
        (b"CONNECT huggingface.co HTTP/1.1", "403"),
        (b"CONNECT example.com:443 HTTP/1.1", "403"),
        (b"CONNECT evil.huggingface.co:443 HTTP/1.1", "403"),
        (b"CONNECT huggingface.co.evil.example:443 HTTP/1.1", "403"),
        (b"CONNECT 127.0.0.1:443 HTTP/1.1", "403"),
        (b"CONNECT [::1]:443 HTTP/1.1", "403"),
        (b"CONNECT user@huggingface.co:443 HTTP/1.1", "403"),
        (b"GET http://huggingface.co/ HTTP/1.1", "405"),
        (b"\x16\x03\x01 hello", "400"),
    ],
)
def test_other_targets_are_refused(line: bytes, status: str) -> None:
    with pytest.raises(ConnectRefused) as caught:
        read_connect(line, NAMES)
    assert caught.value.status.startswith(status)
    assert caught.value.answer.startswith(b"HTTP/1.1 " + status.encode())
