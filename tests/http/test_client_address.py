"""Whose request it is, behind proxies and behind lies."""

import pytest
from hypothesis import given, strategies

from gatehouse.core.errors import Invalid
from gatehouse.http.client_address import TrustedProxies

ADDRESS = strategies.ip_addresses().map(str)


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "client"),
    [
        ("", "198.51.100.7", ["203.0.113.1"], "198.51.100.7"),
        ("10.0.0.0/8", "198.51.100.7", ["203.0.113.1"], "198.51.100.7"),
        ("10.0.0.0/8", "10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1", ["203.0.113.1"], "203.0.113.1"),
        # What a stranger wrote stands in front of what the proxy saw.
        ("10.0.0.0/8", "10.0.0.1", ["1.1.1.1, 203.0.113.1"], "203.0.113.1"),
        ("10.0.0.0/8", "10.0.0.1", ["1.1.1.1", "203.0.113.1"], "203.0.113.1"),
        ("10.0.0.0/8", "10.0.0.1", ["1.1.1.1, 10.9.9.9, 203.0.113.1, 10.2.2.2"], "203.0.113.1"),
        ("10.0.0.0/8", "10.0.0.1", ["203.0.113.1, nonsense"], "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1", ["203.0.113.1, nonsense, 10.2.2.2"], "10.2.2.2"),
        ("10.0.0.0/8", "10.0.0.1", ["203.0.113.1:4711"], "203.0.113.1"),
        ("::1", "::1", ["[2001:db8::1]:4711"], "2001:db8::/64"),
        ("::1, 10.0.0.0/8", "::1", ["203.0.113.1,10.0.0.2"], "203.0.113.1"),
        ("", "2001:db8:0:0:ffff::1", [], "2001:db8::/64"),
        ("", "::ffff:198.51.100.7", [], "198.51.100.7"),
        ("10.0.0.0/8", "::ffff:10.0.0.1", ["203.0.113.1"], "203.0.113.1"),
        ("", None, ["203.0.113.1"], "unknown"),
        ("", "testclient", ["203.0.113.1"], "testclient"),
    ],
)
def test_the_nearest_hop_that_is_not_trusted_is_the_client(
    trusted: str, peer: str | None, forwarded: list[str], client: str
) -> None:
    assert TrustedProxies(trusted).client_of(peer, forwarded) == client


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(Invalid, match="`trusted_proxies` must be networks"):
        TrustedProxies("10.0.0.0/8, intranet")


@given(peer=ADDRESS, forwarded=strategies.lists(strategies.text() | ADDRESS))
def test_without_a_trusted_proxy_no_header_changes_anything(
    peer: str, forwarded: list[str]
) -> None:
    proxies = TrustedProxies()
    assert proxies.client_of(peer, forwarded) == proxies.client_of(peer, [])


@given(forged=strategies.lists(strategies.text(alphabet="0123456789.,: []ab")), client=ADDRESS)
def test_behind_a_proxy_what_was_sent_before_changes_nothing(
    forged: list[str], client: str
) -> None:
    proxies = TrustedProxies("192.0.2.1")
    if client == "192.0.2.1":
        return
    assert proxies.client_of("192.0.2.1", [*forged, client]) == proxies.client_of(client, [])
