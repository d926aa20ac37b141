"""Which addresses may be fetched: public ones, by http or https. Nothing inside a network, no cloud's metadata.

    check_host("127.1", networks=())                          # raises RefusedAddress
    TCPConnector(resolver=PublicResolver(networks=()), socket_factory=public_sockets(networks=()))

Names are judged by what they resolve to, and every socket once more by the address it is made for: a name that
resolves to another one next time gains nothing. `networks` are exceptions, for a mirror of one's own.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from blip.errors import BadArguments

Ip = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
NAT64 = ip_network("64:ff9b::/96")  # an IPv4 address in its last 32 bits
METADATA = {
    ip_address("169.254.169.254"),
    ip_address("fd00:ec2::254"),
    ip_address("100.100.100.200"),
    ip_address("168.63.129.16"),  # Azure's, on a public address
}
RESERVED = [  # which `ipaddress` calls global
    ip_network(text)
    for text in (
        "192.0.0.0/24",
        "192.88.99.0/24",
        "::/96",
        "64:ff9b:1::/48",
        "5f00::/16",
        "3fff::/20",
        "fec0::/10",
    )
]


class RefusedAddress(OSError):
    """An address that is not fetched; the message says why."""


class PublicResolver(AbstractResolver):
    """Resolves names to those of their addresses that may be fetched."""

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        self._inner = ThreadedResolver()
        self._networks = networks

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises RefusedAddress if the name has no address that may be fetched."""
        found = await self._inner.resolve(host, port, family)
        good = [
            one for one in found if not why_not(ip_address(one["host"].partition("%")[0]), self._networks)
        ]
        if found and not good:
            raise RefusedAddress(f"{host} is {found[0]['host']}, which is not a public address")
        return good

    async def close(self) -> None:
        """Nothing is held open."""
        await self._inner.close()


def public_sockets(networks: Sequence[Network] = ()) -> Callable[[tuple[Any, ...]], socket.socket]:
    """Makes the sockets of a connector: for an address as `getaddrinfo` gives it, or RefusedAddress."""

    def make(info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = info
        check_host(str(address[0]), networks)
        return socket.socket(family, kind, protocol)

    return make


def check_host(host: str, networks: Sequence[Network] = ()) -> None:
    """Judge a host that is written as an address; names are judged when they are resolved.

    Raises:
        RefusedAddress: it is an address that is not fetched.
    """
    ip = _literal(host.rstrip("."))
    reason = why_not(ip, networks) if ip else ""
    if reason:
        raise RefusedAddress(f"{host} is {reason}")


def why_not(ip: Ip, networks: Sequence[Network] = ()) -> str:
    """Why an address is not fetched, or the empty string."""
    if any(ip in network for network in networks):
        return ""
    inner = _embedded(ip)
    if inner is not None:
        return why_not(inner, networks)
    if ip in METADATA:
        return "a cloud's metadata address"
    kinds = {"loopback": ip.is_loopback, "link-local": ip.is_link_local, "multicast": ip.is_multicast}
    named = next((name for name, holds in kinds.items() if holds), "private or reserved")
    public = ip.is_global and not ip.is_multicast and not any(ip in network for network in RESERVED)
    return "" if public else f"a {named} address"


def read_networks(texts: Sequence[str]) -> list[Network]:
    """Networks as `10.1.0.0/16` or `127.0.0.1`. Raises BadArguments for anything else."""
    try:
        return [ip_network(text) for text in texts]
    except ValueError as error:
        raise BadArguments(f"networks to allow: {error}; write 10.1.0.0/16 or 127.0.0.1") from None


def _embedded(ip: Ip) -> IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for."""
    if isinstance(ip, IPv4Address):
        return None
    if ip in NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)


def _literal(host: str) -> Ip | None:
    """The address that a host is written as, in any of the spellings that systems take for one; None for a name."""
    with suppress(ValueError):
        return ip_address(host.partition("%")[0])
    with suppress(OSError, UnicodeError):
        return IPv4Address(socket.inet_aton(host))  # 127.1, 0x7f000001, 2130706433, 017700000001
    return None
