"""What must never be fetched."""

import socket
from ipaddress import ip_address

import pytest

from blip.errors import BadArguments
from blip.ingest.download.address import RefusedAddress, check_host, public_sockets, read_networks, why_not


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "0x7f.1", "2130706433", "017700000001", "127.0.0.1.", "::1", "0", "10.1.2.3",
        "172.16.0.1", "192.168.1.1", "169.254.169.254", "fd00:ec2::254", "100.64.0.1", "100.100.100.200",
        "fe80::1%eth0", "fc00::1", "224.0.0.1", "ff02::1", "240.0.0.1", "255.255.255.255", "192.0.2.1",
        "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::",
        "168.63.129.16", "192.0.0.8", "192.88.99.1", "::7f00:1", "fec0::1", "64:ff9b:1::5db8:d822", "2001:0:7f00:1::1",
    ],
)  # fmt: skip
def test_addresses_inside_are_refused_in_every_spelling(host: str) -> None:
    with pytest.raises(RefusedAddress):
        check_host(host)


@pytest.mark.parametrize("host", ["93.184.216.34", "2606:2800:220:1::1", "example.org", "64:ff9b::5db8:d822"])
def test_public_ones_are_not(host: str) -> None:
    check_host(host)


def test_a_socket_is_made_for_what_is_public_only() -> None:
    make = public_sockets()
    make((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 80))).close()
    for family, address in ((socket.AF_INET, ("10.0.0.1", 80)), (socket.AF_INET6, ("::1", 80, 0, 0))):
        with pytest.raises(RefusedAddress):
            make((family, socket.SOCK_STREAM, 6, "", address))


def test_a_network_of_ones_own_can_be_allowed() -> None:
    networks = read_networks(["10.1.0.0/16"])
    assert why_not(ip_address("10.1.2.3"), networks) == ""
    assert why_not(ip_address("10.2.2.3"), networks) == "a private or reserved address"
    with pytest.raises(BadArguments, match=r"write 10\.1\.0\.0/16"):
        read_networks(["inside"])
