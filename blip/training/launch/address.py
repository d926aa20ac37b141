"""Addresses that other nodes can reach, where the hosts file gives a machine's own name to loopback.

    reachable("gpu01")           # on gpu01: 10.0.0.1
    gloo_interface("10.0.0.1")   # {"GLOO_SOCKET_IFNAME": "eth0"}

Debian and cloud images write `127.0.1.1 gpu01` into /etc/hosts of gpu01: the name is loopback there, and the machine's
address everywhere else. What listens or connects by its own name then reaches nobody.
"""

import ipaddress
import os
import socket

import psutil

from blip.errors import BlipError

LOCAL_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")
OF_CONTAINERS = ("docker", "virbr", "veth", "cni")  # interfaces that no other machine is behind
GLOO = "GLOO_SOCKET_IFNAME"
ANY_PORT = 9  # of a datagram that is never sent


def reachable(master: str, other: str | None = None) -> str:
    """`master`, or this machine's address where that name is loopback here though others know it otherwise.

    Args:
        other: a node that is told the address, so that of several the one on the way to it is taken.

    Raises:
        BlipError: this machine has no such address, or several.
    """
    if _written_as_loopback(master) or not _is_loopback(_resolved(master)):
        return master
    own = _own_addresses()
    if len(own) == 1:
        return next(iter(own))
    if other and (facing := _facing(other)) in own:
        return facing
    listed = ", ".join(f"{address} ({interface})" for address, interface in own.items())
    raise BlipError(
        f"other nodes cannot reach {master}: on this machine /etc/hosts says {_resolved(master)}, and it has "
        + (
            f"several addresses: {listed}. Write the one that the others reach"
            if own
            else "no other address. Write it"
        )
        + f" beside {master} in /etc/hosts, or in place of the name on the first line of the hostfile"
    )


def gloo_interface(master: str) -> dict[str, str]:
    """The variable that has gloo listen where node 0 is reached from, if by the machine's name it would on loopback."""
    if GLOO in os.environ or not _is_loopback(_resolved(socket.gethostname()) or "127.0.0.1"):
        return {}
    facing = _facing(master)
    if facing is None or _is_loopback(facing):
        return {}
    for interface, addresses in psutil.net_if_addrs().items():
        if facing in [one.address.partition("%")[0] for one in addresses]:
            return {GLOO: interface}
    return {}


def _own_addresses() -> dict[str, str]:
    """Interfaces by address: those that are up and lead to other machines."""
    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    return {
        one.address: name
        for name, addresses in psutil.net_if_addrs().items()
        if name in up and not name.startswith(OF_CONTAINERS)
        for one in addresses
        if one.family == socket.AF_INET and not _is_local(one.address)
    }


def _facing(host: str) -> str | None:
    """This machine's address on the way to another; None if there is no way."""
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, ANY_PORT, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(where)
            return probe.getsockname()[0]
    except OSError:
        return None


def _resolved(name: str) -> str | None:
    try:
        return str(socket.getaddrinfo(name, None)[0][4][0])
    except OSError:
        return None


def _written_as_loopback(name: str) -> bool:
    return name in LOCAL_NAMES or _is_loopback(name)


def _is_loopback(address: str | None) -> bool:
    try:
        return address is not None and ipaddress.ip_address(address).is_loopback
    except ValueError:  # a name
        return False


def _is_local(address: str) -> bool:
    found = ipaddress.ip_address(address)
    return found.is_loopback or found.is_link_local
