"""
What the topics of a tracker have in common.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from dtt.config import Config
from dtt.events import EventSink
from dtt.identity import PeerKey
from dtt.interfaces import IDHT, IAddressBook, IPeerTransport


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
