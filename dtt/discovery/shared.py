"""
The services that the topics of a tracker share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from attrs import Factory, frozen
from twisted.internet.interfaces import IReactorTime

from dtt.config import Config
from dtt.discovery.candidates import ContentReader, read_member
from dtt.discovery.lan import LocalSearch
from dtt.discovery.swarm_memory import SwarmMemory
from dtt.events import EventSink
from dtt.gossip.budget import LinkBudget
from dtt.gossip.services import GossipServices
from dtt.identity import PeerKey
from dtt.interfaces import IDHT, IAddressBook, IPeerTransport, PeerId
from dtt.net.dial_budget import DialBudget
from dtt.wire.addresses import Address


@frozen
class SharedServices:
    """
    The services that all topics of a tracker share.

    @ivar reactor: the clock.
    @ivar rng: an unpredictable random number generator.
    @ivar config: the settings.
    @ivar key: our key pair.
    @ivar dht: the DHT node.
    @ivar book: the address book.
    @ivar transport: the transports, as one.
    @ivar emit: called with each event.
    @ivar reachable: returns whether a member has ever connected to us.
    @ivar symmetric: returns whether we are behind a symmetric NAT, without a mapped port.
    @ivar reached: returns whether a member has connected to us, or has probed us, from outside, without an
        earlier datagram from us.
    @ivar probe: called with a peer id, addresses that may be dialled, and a topic:
        probes them.
    @ivar keep_open: the same with one probe each, so that our NAT admits the peer's.
    @ivar read_content: reads the contents of records.
    @ivar all_publish: whether every publisher should be found, as in discovery without a swarm; members of a
        swarm need to find only some.
    @ivar budget: shares the connections among the topics.
    @ivar dials: limits the dials of each network.
    @ivar ahead: returns the number of seconds by which the clocks of most members are ahead of ours.
    @ivar behind_nat: returns whether others see us at an address that is not this machine's; C{None}:
        not known.
    @ivar heard_clock: called with the peer id of a member, and the time of its clock in unix seconds,
        according to a record that it has just created.
    @ivar lan: searches the local network; C{None}: it is not searched.
    @ivar memory: the most recent neighbours; C{None}: none are remembered.
    """

    reactor: IReactorTime
    rng: Random
    config: Config
    key: PeerKey
    dht: IDHT
    book: IAddressBook
    transport: IPeerTransport
    emit: EventSink
    reachable: Callable[[], bool]
    symmetric: Callable[[], bool] = lambda: False
    reached: Callable[[], bool] = lambda: True
    probe: Callable[[PeerId, Sequence[Address], bytes], object] = lambda *_: None
    keep_open: Callable[[PeerId, Sequence[Address], bytes], object] = lambda *_: None
    read_content: ContentReader = read_member
    all_publish: bool = False
    budget: LinkBudget = Factory(lambda shared: LinkBudget(shared.reactor, shared.transport), takes_self=True)
    dials: DialBudget = Factory(DialBudget)
    memory: SwarmMemory | None = None
    lan: LocalSearch | None = None
    ahead: Callable[[], float] = lambda: 0.0
    behind_nat: Callable[[], bool | None] = lambda: None
    heard_clock: Callable[[PeerId, float], object] = lambda peer, time: None

    def estimated_time(self) -> float:
        """
        Return the unix time in seconds, as most members have it.
        """
        return self.reactor.seconds() + self.ahead()

    def for_gossip(self) -> GossipServices:
        """
        Return those of the services that gossip uses.
        """
        return GossipServices(
            self.reactor,
            self.rng,
            self.key.peer_id,
            self.transport,
            self.book,
            self.config.timeouts,
            self.budget,
            self.dials,
        )
