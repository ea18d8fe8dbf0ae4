"""
The services that the members of all topics share.
"""

from __future__ import annotations

from random import Random

from attrs import Factory, field, frozen
from twisted.internet.interfaces import IReactorTime

from dtt.config import TimeoutsConfig
from dtt.gossip.budget import LinkBudget
from dtt.interfaces import IAddressBook, IPeerTransport, PeerId
from dtt.net.dial_budget import DialBudget


@frozen(slots=True, eq=False)
class GossipServices:
    """
    The services that the members of all topics share.

    @ivar reactor: schedules timers and timeouts.
    @ivar rng: the source of randomness of the protocol.
    @ivar peer_id: our peer id (32 bytes): the public key of the transport.
    @ivar transport: connects to peers.
    @ivar book: knows addresses of peers.
    @ivar timeouts: the time limits of operations.
    @ivar budget: shares the connections among the topics.
    @ivar dials: limits the dials of each network.
    """

    reactor: IReactorTime
    rng: Random
    peer_id: PeerId
    transport: IPeerTransport
    book: IAddressBook
    timeouts: TimeoutsConfig = field(factory=TimeoutsConfig)
    budget: LinkBudget = Factory(
        lambda services: LinkBudget(services.reactor, services.transport), takes_self=True
    )
    dials: DialBudget = field(factory=DialBudget)
