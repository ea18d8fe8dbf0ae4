"""
Tests for L{dtt.addresses.dialable}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis.strategies import builds, integers, ip_addresses, lists, sampled_from
from twisted.trial.unittest import SynchronousTestCase

from dtt.addresses.dialable import dialable
from dtt.net.networks import Scope, scope
from dtt.wire.addresses import IROH, MAX_ADDRESSES, STREAMS, PeerAddress, RelayAddress

LOOPBACK = ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1")
LINK_LOCAL = ("169.254.1.1", "fe80::1", "::ffff:169.254.1.1")
PRIVATE = ("10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fd00::1", "fec0::1")
GLOBAL = ("8.8.8.8", "172.32.0.1", "100.128.0.1", "192.0.2.1", "2001:db8::1", "2a00::1")
NEVER = (
    "0.0.0.0",
    "0.1.2.3",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::7f00:1",
    "ff02::1",
    "::ffff:0.0.0.0",
    "::ffff:224.0.0.1",
    "::ffff:255.255.255.255",
    "",
    "localhost",
    "1.2.3",
    "1.2.3.4:5",
)


def at(*hosts: str) -> tuple[PeerAddress, ...]:
    """
    Streams addresses at C{hosts}, port 1.
    """
    return tuple(PeerAddress(STREAMS, host, 1) for host in hosts)


class DialableTests(SynchronousTestCase):
    """
    Tests for L{dialable}.
    """

    def test_here(self) -> None:
        """
        A host that is known to be in the local network may be dialled, even if we have no address of its
        scope; but never loopback, nor an address that is not a host's.
        """
        for host in ("169.254.1.1", "10.1.2.3", "192.168.1.1", "fd00::1"):
            self.assertEqual(dialable(at(host), at("8.8.8.8"), host.__eq__), at(host))
            self.assertEqual(dialable(at(host), at("8.8.8.8"), "10.9.9.9".__eq__), ())
        for host in ("127.0.0.1", "::1", "0.0.0.0", "224.0.0.1"):
            self.assertEqual(dialable(at(host), at("8.8.8.8"), host.__eq__), ())

    def test_scopes(self) -> None:
        """
        Every address has the scope of its address block.
        """
        for expected, hosts in (
            (Scope.LOOPBACK, LOOPBACK),
            (Scope.LINK_LOCAL, LINK_LOCAL),
            (Scope.PRIVATE, PRIVATE),
            (Scope.GLOBAL, GLOBAL),
            (Scope.NEVER, NEVER),
        ):
            for host in hosts:
                self.assertIs(scope(host), expected, host)

    def test_global(self) -> None:
        """
        A member that lists no address dials only global addresses.
        """
        for host in GLOBAL:
            self.assertEqual(dialable(at(host), ()), at(host))
        for host in (*LOOPBACK, *LINK_LOCAL, *PRIVATE, *NEVER):
            self.assertEqual(dialable(at(host), ()), (), host)

    def test_one_of_that_kind(self) -> None:
        """
        Loopback, link-local and private addresses are dialled if the member lists one of
        the same scope, in either family; other scopes are not.
        """
        kinds = (LOOPBACK, LINK_LOCAL, PRIVATE)
        for kind in kinds:
            for own in kind:
                listed = (PeerAddress(STREAMS, own, 9),)
                for other in kinds:
                    for host in other:
                        self.assertEqual(len(dialable(at(host), listed)), int(other is kind), (own, host))

    def test_never(self) -> None:
        """
        Unspecified, multicast and broadcast addresses are never dialled, even if the
        member lists the same address.
        """
        own = tuple(PeerAddress(STREAMS, host, 9) for host in (*NEVER, *LOOPBACK, *LINK_LOCAL, *PRIVATE))
        for host in NEVER:
            self.assertEqual(dialable(at(host), own), (), host)

    def test_own(self) -> None:
        """
        The member's own ip and port is not dialled, however it is written; another port
        of the same ip is.
        """
        own = (PeerAddress(STREAMS, "127.0.0.1", 7), PeerAddress(STREAMS, "2001:db8::1", 7))
        for host in ("127.0.0.1", "::ffff:127.0.0.1", "2001:db8::1", "2001:db8:0:0:0:0:0:1"):
            self.assertEqual(dialable([PeerAddress(STREAMS, host, 7), PeerAddress(IROH, host, 7)], own), ())
            self.assertEqual(len(dialable([PeerAddress(STREAMS, host, 8)], own)), 1)

    def test_ports(self) -> None:
        """
        Port 0 is not dialled.
        """
        self.assertEqual(dialable([PeerAddress(STREAMS, "8.8.8.8", 0)], ()), ())
        self.assertEqual(len(dialable([PeerAddress(STREAMS, "8.8.8.8", 65535)], ())), 1)

    def test_canonical(self) -> None:
        """
        Different spellings of one address count as one address.
        """
        spellings = at("::ffff:8.8.8.8", "8.8.8.8", "::ffff:808:808")
        self.assertEqual(dialable(spellings, ()), at("8.8.8.8"))

    def test_at_most_eight(self) -> None:
        """
        The first eight dialable addresses are kept, in order.
        """
        many = at(*(f"8.8.8.{number}" for number in range(20)))
        self.assertEqual(dialable([*at("0.0.0.0", "10.0.0.1"), *many], ()), many[:MAX_ADDRESSES])

    addresses = lists(
        builds(PeerAddress, sampled_from((STREAMS, IROH)), ip_addresses().map(str), integers(0, 65535))
    )

    @given(addresses, addresses)
    def test_any(self, addresses: list[PeerAddress], own: list[PeerAddress]) -> None:
        """
        For any input, no result is the member's own address, and a second call changes
        nothing.
        """
        found = dialable(addresses, own)
        self.assertEqual(set(found) & set(own), set())
        self.assertEqual(dialable(found, own), found)


class RelayTests(SynchronousTestCase):
    """
    Tests for L{dialable} with relays.
    """

    def test_public(self) -> None:
        """
        One relay with a public name or address is kept, in addition to twelve addresses; a second
        one is dropped.
        """
        many = [PeerAddress(IROH, "192.0.2.1", port + 1) for port in range(MAX_ADDRESSES + 1)]
        relay = RelayAddress("https://relay.example./")
        second = RelayAddress("http://198.51.100.7:3340/")
        self.assertEqual(dialable([*many, relay, second], ()), (*many[:MAX_ADDRESSES], relay))
        self.assertEqual(dialable([second], ()), (second,))

    def test_own_network(self) -> None:
        """
        A relay on loopback or in a private network is used only by a member that lists
        such an address itself.
        """
        for url, own in (
            ("http://127.0.0.1:3340/", "127.0.0.1"),
            ("http://localhost:3340/", "127.0.0.1"),
            ("http://[::1]:3340/", "::1"),
            ("https://10.1.2.3/", "192.168.0.1"),
            ("https://intranet/", "192.168.0.1"),
        ):
            relay = RelayAddress(url)
            self.assertEqual(dialable([relay], ()), (), url)
            self.assertEqual(dialable([relay], [PeerAddress(STREAMS, own, 1)]), (relay,), url)
        own_relay = RelayAddress("http://127.0.0.1:3340/")
        self.assertEqual(dialable([own_relay], [own_relay]), (own_relay,))

    def test_own_relay(self) -> None:
        """
        A member's own relay on loopback or in a private network allows relays there, but
        not addresses, which strangers could choose.
        """
        for url, host in (("http://127.0.0.1:3340/", "127.0.0.2"), ("http://relay/", "192.168.0.1")):
            other = RelayAddress(url + "x")
            found = dialable([PeerAddress(IROH, host, 22), other], [RelayAddress(url)])
            self.assertEqual(found, (other,))

    def test_no_url(self) -> None:
        """
        An invalid relay URL is never used.
        """
        for url in (
            "",
            "relay.example",
            "ftp://relay.example/",
            "https:///",
            "https://user@relay.example/",
            "https://relay.example:0/",
            "https://relay.example:99999/",
            "https://[::1/",
            "https://relay.example/\n",
            "https://relay .example/",
            "https://r\N{LATIN SMALL LETTER E WITH ACUTE}lay.example/",
            "https://0.0.0.0/",
            "https://0x7f.1/",
            "https://2130706433/",
            # URLs that browsers and iroh resolve to 127.0.0.1, localhost, or another host than this
            # code would.
            "http://127.0.0.1\\.example/",
            "http://relay.localhos%74/",
            "http://%31%32%37.0.0.1/",
            "http://relay_1.example;x/",
            "https://relay.example/" + "x" * 255,
        ):
            self.assertEqual(dialable([RelayAddress(url)], [PeerAddress(STREAMS, "127.0.0.1", 1)]), (), url)
