"""
What the tests of the contract have in common.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import DialFailed
from dtt.testing.memory_transport import RecordingLinks
from tests.transport.contract.networks import Network, Transport

if TYPE_CHECKING:
    _Base = SynchronousTestCase
else:
    _Base = object

TOPIC, OTHER, SECRET = b"t" * 32, b"u" * 32, b"s" * 32

#: A gossip C{Disconnect}: the last message of a topic.
BYE = b"\x00\x05\x00\x00"

#: A gossip C{Join}: the first message of a topic.
JOIN = b"\x00\x00\x00"


class ContractMixin(_Base):
    """
    Two transports on a network.
    """

    def network(self) -> Network:
        """
        Return a new network.
        """
        raise NotImplementedError

    def setUp(self) -> None:
        self.net = self.network()
        self.a, self.b = self.net.transport(1), self.net.transport(2)

    def open(
        self, *transports: Transport, topic: bytes = TOPIC, secret: bytes = SECRET
    ) -> list[RecordingLinks]:
        """
        Open a topic on each of C{transports}.
        """
        found = []
        for transport in transports:
            links = RecordingLinks()
            transport.open_topic(topic, secret, links)
            found.append(links)
        return found

    def connect(self, one: Transport, other: Transport) -> None:
        """
        C{one} dials C{other}; both report the connection.
        """
        result = one.dial(other.peer_id, other.addresses())
        self.net.advance(0.1)
        self.successResultOf(result)

    def reason(self, result: Deferred[None]) -> str:
        """
        The reason of a failed dial.
        """
        return str(self.failureResultOf(result, DialFailed).value)
