"""
Tests for L{dtt.dht.client.client}.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.client.client import FEW_VALUES, MAX_UNVERIFIED, Client
from dtt.dht.client.lookup import MAX_NODES, SLOT_WIDTH, LookupOptions
from dtt.dht.reach import Reach
from dtt.dht.routing.buckets import K
from dtt.dht.routing.table import RoutingTable
from dtt.errors import QueryRefused, QueryTimeout
from dtt.interfaces import Contact
from dtt.krpc.compact import IPV4
from dtt.krpc.items import sign_item
from dtt.krpc.messages import Response
from dtt.krpc.protocol import KRPCProtocol
from tests.dht.network import PUBLIC_KEY, SALT, SEED, outcome, record

CONTACTS = [Contact(bytes((number,)) * 20, f"10.0.{number}.1", 1) for number in range(1, 101)]


class Protocol:
    """
    Open queries, answered by the test; stands in for
    L{KRPCProtocol<dtt.krpc.protocol.KRPCProtocol>}.
    """

    trusts_timeout = True

    def __init__(self) -> None:
        self.open: list[tuple[str, bytes, dict[bytes, Any], Deferred[Response]]] = []
        self.exhausted: set[str] = set()

    def may_query(self, host: str, port: int) -> bool:
        """
        Return whether the packet budget allows a query.
        """
        return host not in self.exhausted

    def query(
        self, host: str, port: int, method: bytes, arguments: dict[bytes, Any], on_slow: object
    ) -> Deferred[Response]:
        """
        Record a query.
        """
        query: Deferred[Response] = Deferred()
        self.open.append((host, method, arguments, query))
        return query


class ClientTestCase(SynchronousTestCase):
    """
    A client; the test is its owner.
    """

    def setUp(self) -> None:
        """
        Create a client that knows nobody.
        """
        self.clock = Clock()
        self.protocol = Protocol()
        self.both = False
        self.told: list[tuple[str, str]] = []
        table = RoutingTable(bytes(20), 0.0, closed=True)
        self.client = Client(
            self.clock, cast(KRPCProtocol, self.protocol), table, IPV4, self, Reach(True, [])
        )

    # ClientOwner

    def wants_both(self) -> bool:
        """
        Return what the test wants.
        """
        return self.both

    def sending(self, host: str) -> None:
        """
        Record a host.
        """
        self.told.append(("sending", host))

    def timed_out(self, contact: Contact) -> None:
        """
        Record a node.
        """
        self.told.append(("timed out", contact.host))


class AskTests(ClientTestCase):
    """
    Single queries.
    """

    def test_want(self) -> None:
        """
        Nodes of both families are requested if the owner wants them, by the methods
        that return nodes. The caller's arguments stay unchanged.
        """
        for both in (False, True):
            self.both = both
            for method, nodes in (
                (b"get", True),
                (b"find_node", True),
                (b"get_peers", True),
                (b"ping", False),
            ):
                arguments: dict[bytes, Any] = {b"x": 1}
                self.client.ask(CONTACTS[0], method, arguments)
                sent = self.protocol.open[-1][2]
                self.assertEqual(sent.get(b"want"), [b"n4", b"n6"] if both and nodes else None)
                self.assertEqual(arguments, {b"x": 1})

    def test_owner(self) -> None:
        """
        The owner is notified of each query, and of each that was sent and timed out, but not of refused or
        held-back ones.
        """
        refused, late, held_back = CONTACTS[:3]
        self.protocol.exhausted = {held_back.host}
        for contact, error in (
            (refused, QueryRefused(201, "no")),
            (late, QueryTimeout("no reply")),
            (held_back, QueryTimeout("too many")),
        ):
            results = outcome(self.client.ask(contact, b"ping", {}))
            self.protocol.open[-1][3].errback(error)
            self.assertIs(results[0].value, error)
        self.assertEqual(
            self.told,
            [
                ("sending", refused.host),
                ("sending", late.host),
                ("timed out", late.host),
                ("sending", held_back.host),
            ],
        )


class StartTests(ClientTestCase):
    """
    Where lookups start.
    """

    def test_few_nodes(self) -> None:
        """
        While the table has fewer than 8 nodes, unverified nodes and those of the last
        run are starting points too.
        """
        self.client.learn_unverified(CONTACTS[20:22])
        self.client.earlier_contacts = CONTACTS[30:32]
        for contact in CONTACTS[: K - 1]:
            self.client.table.responded(contact, 0.0)
        others = [*CONTACTS[20:22], *CONTACTS[30:32]]
        self.assertEqual(self.client.starts(bytes(20)), [*CONTACTS[: K - 1], *others])
        self.client.table.responded(CONTACTS[K - 1], 0.0)
        self.assertEqual(self.client.starts(bytes(20)), CONTACTS[:K])

    def test_bounded(self) -> None:
        """
        A bounded number of unverified nodes is kept, the same number of each response
        however many it names.
        """
        self.client.learn_unverified(CONTACTS)
        self.assertEqual(self.client.unverified, CONTACTS[:MAX_NODES])
        for start in range(40, 96, 8):
            self.client.learn_unverified(CONTACTS[start : start + 8])
        kept = self.client.unverified
        self.assertEqual(len(kept), MAX_UNVERIFIED)
        self.assertEqual(set(CONTACTS[40:96]) - set(kept), set())
        self.assertEqual(len(set(CONTACTS[:MAX_NODES]) & set(kept)), 8)

    def test_silent(self) -> None:
        """
        A node that was silent is not a starting point again.
        """
        self.client.learn_unverified(CONTACTS[:2])
        self.client.earlier_contacts = CONTACTS[2:4]
        for contact in CONTACTS[1:3]:
            outcome(self.client.ask(contact, b"ping", {}))
            self.protocol.open[-1][3].errback(QueryTimeout("no reply"))
        self.assertEqual(self.client.starts(bytes(20)), [CONTACTS[0], CONTACTS[3]])

    def test_running_lookup(self) -> None:
        """
        A running lookup queries the nodes that become known.
        """
        self.client.earlier_contacts = CONTACTS[:1]
        self.client.find_node(bytes(20)).start()
        self.client.learn_unverified(CONTACTS[1:2])
        self.clock.advance(0.0)
        self.assertEqual([host for host, *_ in self.protocol.open], [each.host for each in CONTACTS[:2]])


class SlotTests(ClientTestCase):
    """
    Reading a slot.
    """

    def read(self, publishers: int) -> int:
        """
        Read a slot that has the records of some publishers; return how many nodes
        answered.
        """
        options = LookupOptions(width=24, known=CONTACTS[:50])
        reading = self.client.get_mutable(PUBLIC_KEY, SALT, None, None, options)
        done = Deferred.fromCoroutine(reading)
        answered = 0
        while not done.called:
            self.assertTrue(self.protocol.open or self.clock.getDelayedCalls())
            opened, self.protocol.open = self.protocol.open, []
            for host, _, _, query in opened:
                value = record(answered % publishers)
                item = sign_item(SEED, SALT, 1, value)
                values = {b"k": PUBLIC_KEY, b"seq": 1, b"sig": item.signature, b"v": value}
                contact = next(each for each in CONTACTS if each.host == host)
                answered += 1
                query.callback(Response(b"tttt", contact.node_id, values, b"", None))
            self.clock.advance(0.0)
        return len(self.successResultOf(done).answers)

    def test_few_values(self) -> None:
        """
        A slot with few values is read to the requested width.
        """
        self.assertEqual(self.read(FEW_VALUES), 24)

    def test_many_values(self) -> None:
        """
        A slot with more is read to its full width.
        """
        self.assertEqual(self.read(FEW_VALUES + 1), SLOT_WIDTH)


class NotifyTests(ClientTestCase):
    """
    Observers.
    """

    def test_exception(self) -> None:
        """
        The exception of an observer is logged.
        """

        def broken(_: int) -> None:
            raise ZeroDivisionError

        self.client.notify(None, 1)
        self.client.notify(broken, 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
