"""
Tests for L{dtt.transport.iroh.transport}, over an in-memory QUIC network.  What all
transports have in common is in L{tests.transport.test_contract}.
"""

from __future__ import annotations

from random import Random
from typing import Any

from dtt.addresses.book import AddressBook
from dtt.errors import ListenError, UsageError
from dtt.gossip.member import GossipMember
from dtt.gossip.services import GossipServices
from dtt.transport.iroh.endpoint import Servers
from dtt.transport.iroh.transport import IrohTransport
from dtt.transport.settings import TransportSettings
from dtt.wire.addresses import IROH, PeerAddress, RelayAddress
from tests.transport.iroh.common import KEYS, SECRET, TOPIC, IrohTestCase


class AddressTests(IrohTestCase):
    """
    Our addresses, and dials by them.
    """

    def test_bound(self) -> None:
        """
        The bound address is listed.
        """
        self.assertEqual(self.a.addresses(), (PeerAddress(IROH, "10.0.0.1", self.a.port or 0),))

    def test_listen_twice(self) -> None:
        """
        A transport listens only once.
        """
        self.assertRaises(ListenError, self.a.listen, "10.0.0.1", 0)

    def test_bound_to_all(self) -> None:
        """
        The external address comes first, then those of the interfaces, then others that
        the library knows.
        """
        transport = IrohTransport(
            self.clock,
            KEYS[5],
            bindings=self.net.bindings("0.0.0.0"),
            interface_addresses=lambda: ["192.168.0.5", "2001:db8::5"],
        )
        transport.listen("", 4433)
        transport.set_external_host("203.0.113.5")
        endpoint = self.net.endpoints[-1]
        known = ["203.0.113.5:61000", "127.0.0.1:4433", "192.168.0.5:4433"]
        self.patch(endpoint, "known", known)
        self.assertEqual(
            [str(address) for address in transport.addresses()],
            ["203.0.113.5:4433", "192.168.0.5:4433", "203.0.113.5:61000"],
        )

    def test_relay(self) -> None:
        """
        A relay is listed once we are connected to it, and the change is reported.
        """
        changes = []
        url = "https://relay.example/"
        transport, _ = self.transport(
            5,
            servers=Servers(relay_urls=[url]),
            settings=TransportSettings(on_addresses_changed=lambda: changes.append(1)),
        )
        self.assertNotIn(RelayAddress(url), transport.addresses())
        self.net.start_relay(url)
        self.advance(0)
        self.assertEqual(transport.addresses()[1:], (RelayAddress(url),))
        self.assertEqual(changes, [1])
        self.advance(60)
        self.assertEqual(changes, [1])
        self.net.relays.clear()
        self.advance(6)
        self.assertEqual(changes, [1, 1])

    def test_by_relay_alone(self) -> None:
        """
        A peer can be reached by its relay alone, if relays are enabled.
        """
        url = "https://relay.example/"
        self.net.start_relay(url)
        b, _ = self.transport(2, servers=Servers(relay_urls=[url]))
        c, _ = self.transport(3, servers=Servers(relay_urls=[url]))
        dial = c.dial(b.peer_id, [RelayAddress(url)])
        self.advance(0.1)
        self.successResultOf(dial)
        dial = self.a.dial(b.peer_id, [RelayAddress(url)])
        self.assertEqual(str(self.failureResultOf(dial).value), "no address")

    def test_by_id_alone(self) -> None:
        """
        With n0's preset the library can find a peer by its id.
        """
        transport, _ = self.transport(5, servers=Servers("n0"))
        self.assertTrue(transport.finds_peers)
        self.assertFalse(self.a.finds_peers)
        dial = transport.dial(KEYS[6].peer_id, [])
        self.assertIn("no address", str(self.failureResultOf(dial).value))

    def test_settings(self) -> None:
        """
        An invalid preset or relay is an error.
        """
        bindings = self.net.bindings("10.0.0.9")
        for servers in (Servers("n1"), Servers(relay_urls=["relay.example"])):
            self.assertRaises(
                UsageError, IrohTransport, self.clock, KEYS[9], bindings=bindings, servers=servers
            )

    def test_not_listening(self) -> None:
        """
        Dialling requires a bound socket.
        """
        transport = IrohTransport(self.clock, KEYS[9], bindings=self.net.bindings("10.0.0.9"))
        dial = transport.dial(self.a.peer_id, self.a.addresses())
        self.assertEqual(str(self.failureResultOf(dial).value), "not listening")
        self.successResultOf(transport.stop())

    def test_not_a_key(self) -> None:
        """
        An id that is not a valid key can't be dialled.
        """
        dial = self.a.dial(bytes(32), [PeerAddress(IROH, "10.0.0.2", 1)])
        self.assertEqual(str(self.failureResultOf(dial).value), "invalid peer id")


class MemberTests(IrohTestCase):
    """
    A swarm over iroh.
    """

    def test_swarm(self) -> None:
        """
        Eight members join one, all receive each message, and when one leaves its
        connections are closed.
        """
        members: list[tuple[GossipMember, IrohTransport]] = []
        heard: list[_Contents] = []
        for number in range(10, 18):
            key = KEYS[number]
            host = f"10.0.0.{number}"
            transport = IrohTransport(self.clock, key, bindings=self.net.bindings(host))
            transport.listen(host, 0)
            rng = Random(number)
            book = AddressBook(self.clock, rng, transport.addresses, key.peer_id)
            services = GossipServices(self.clock, rng, key.peer_id, transport, book)
            member = GossipMember(services, TOPIC, SECRET)
            observer = _Contents()
            member.subscribe(observer)
            member.start()
            if members:
                book.learn(members[0][1].peer_id, members[0][1].addresses(), "record")
                member.join([members[0][1].peer_id])
            members.append((member, transport))
            heard.append(observer)
            self.advance(1)
        self.advance(5)
        for number, (member, _) in enumerate(members):
            self.assertGreater(len(member.neighbors()), 1)
            member.broadcast(b"from %d" % number)
        self.advance(2)
        for number, observer in enumerate(heard):
            expected = {b"from %d" % each for each in range(8) if each != number}
            self.assertEqual(set(observer.contents), expected)
        member, transport = members[3]
        member.leave()
        self.advance(2)
        self.assertEqual(transport.peers.connections(), ())
        for other, _ in members:
            self.assertNotIn(transport.peer_id, other.neighbors())
        for _, transport in members:
            for reason in transport.counters:
                self.assertFalse(reason.startswith("closed_") and reason != "closed_by_peer", reason)


class _Contents:
    """
    An observer that records contents.
    """

    def __init__(self) -> None:
        self.contents: list[bytes] = []

    def neighbor_up(self, peer_id: bytes) -> None:
        """Do nothing."""

    def neighbor_down(self, peer_id: bytes) -> None:
        """Do nothing."""

    def message_received(self, message: Any) -> None:
        """Record it."""
        self.contents.append(message.content)
