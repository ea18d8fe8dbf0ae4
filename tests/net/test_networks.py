"""
Tests for L{dtt.net.networks}.
"""

from __future__ import annotations

import ipaddress
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.net.networks import Scope, packed_scope, scope

#: Addresses by scope.
ADDRESSES = {
    Scope.NEVER: (
        *("0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
        *("::", "::1.2.3.4", "::2", "ff02::1", "ff0e::c", "100::1", "4000::1", "5f00::1", "e000::1"),
        # NAT64, translated, 6to4 and Teredo addresses of local addresses.
        *("64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b::e000:1"),
        *("::ffff:0:1.2.3.4", "2002:7f00:1::1", "2002:a00:1::1", "2002:c0a8:101::1", "2002:a9fe:a9fe::1"),
        *("2002::1", "2002:e000:1::1", "2001:0:7f00:1::f6ff:fefe", "2001:0:506:708::80ff:fffe"),
        "2001:0:506:708::f5ff:fffe",
    ),
    Scope.LOOPBACK: ("127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1"),
    Scope.LINK_LOCAL: ("169.254.169.254", "169.254.0.1", "fe80::1", "febf::1", "::ffff:169.254.169.254"),
    Scope.PRIVATE: (
        *("10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255"),
        *("100.64.0.1", "100.127.255.255", "192.0.0.8", "fc00::1", "fdff::1", "fec0::1", "64:ff9b:1::1"),
        "::ffff:10.0.0.1",
    ),
    Scope.GLOBAL: (
        *("1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.0.0.1", "128.0.0.1"),
        *("169.253.0.1", "169.255.0.1", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.0.1"),
        *("192.169.0.1", "223.255.255.255", "2001:db8::1", "2a00::1", "3fff::1", "::ffff:1.1.1.1"),
        *("64:ff9b::1.1.1.1", "2002:101:101::1", "2001:0:101:101::fefe:fefe"),
    ),
}


class ScopeTests(SynchronousTestCase):
    """
    L{scope} and L{packed_scope}.
    """

    def test_scopes(self) -> None:
        """
        Every address has the scope of its block; one that contains an IPv4 address leads
        to that address.
        """
        for expected, hosts in ADDRESSES.items():
            for host in hosts:
                self.assertIs(scope(host), expected, host)
                self.assertIs(packed_scope(ipaddress.ip_address(host).packed), expected, host)

    def test_not_an_address(self) -> None:
        """
        Anything but an IP literal has no scope.
        """
        for host in ("", "localhost", "1.2.3", "0177.0.0.1", "127.1", "::1::", "[::1]"):
            self.assertIs(scope(host), Scope.NEVER, host)

    def test_zones(self) -> None:
        """
        A zone changes nothing.
        """
        self.assertIs(scope("fe80::1%eth0"), Scope.LINK_LOCAL)

    def test_no_local_address_is_global(self) -> None:
        """
        What Python's tables call reserved, private or multicast is not global, except
        for the networks for documentation and benchmarks.
        """
        harmless = [
            ipaddress.ip_network(network)
            for network in (
                *("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15"),
                *("2001::/23", "3fff::/20", "2001:db8::/32"),
            )
        ]
        rng = Random(6)
        for _ in range(20_000):
            ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.IPv4Address(rng.getrandbits(32))
            if rng.random() < 0.5:
                ip = ipaddress.IPv6Address(rng.getrandbits(128))
            if packed_scope(ip.packed) is Scope.GLOBAL:
                local = ip.is_private or ip.is_multicast or ip.is_reserved or ip.is_link_local
                self.assertTrue(
                    not local or any(ip in network for network in harmless if network.version == ip.version),
                    str(ip),
                )
