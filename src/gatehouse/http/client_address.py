"""Where a request comes from: what limits for strangers are counted by.

A forwarding header is believed only from proxies that the operator named; anybody can send one.
"""

import ipaddress
from collections.abc import Sequence

from starlette.requests import Request

from gatehouse.core.errors import Invalid

_IPv6_PREFIX = 64
_MAX_HOPS = 20
_UNKNOWN = "unknown"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class TrustedProxies:
    """The networks of the operator's own reverse proxies.

    Args:
        networks: Comma-separated CIDRs, such as `10.0.0.0/8, ::1`; empty for none.

    Raises:
        Invalid: One is not a network.
    """

    def __init__(self, networks: str = "") -> None:
        self._networks = tuple(_network(part) for part in networks.split(",") if part.strip())

    def client_of(self, peer: str | None, forwarded_for: Sequence[str]) -> str:
        """The address to count by.

        Args:
            peer: Who holds the connection.
            forwarded_for: The values of `X-Forwarded-For`, in the order in which they came.

        Returns:
            The nearest hop that is no trusted proxy. IPv6 is cut to the 64 bits that a provider
            gives to one customer.
        """
        hops = [hop.strip() for value in forwarded_for for hop in value.split(",")]
        client = _parse(peer or "")
        # Each proxy adds at the end whom it was called by.
        for hop in reversed(hops[-_MAX_HOPS:]):
            if client is None or not self._is_trusted(client):
                break
            found = _parse(hop)
            if found is None:
                break
            client = found
        return (peer or _UNKNOWN)[:100] if client is None else _shared_prefix(client)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def client_address(request: Request) -> str:
    """Where this request comes from, as limits count it."""
    proxies = request.app.state.services.trusted_proxies
    peer = request.client.host if request.client else None
    return str(proxies.client_of(peer, request.headers.getlist("x-forwarded-for")))


def _network(text: str) -> Network:
    text = text.strip()[:100]
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise Invalid(
            f"`trusted_proxies` must be networks such as `10.0.0.0/8`. Given: `{text}`"
        ) from None


def _parse(text: str) -> Address | None:
    """An address as a proxy may write it: with a port, or IPv6 in brackets."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _shared_prefix(address: Address) -> str:
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address, _IPv6_PREFIX), strict=False))
