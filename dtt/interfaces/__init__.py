"""
The interfaces between the parts of dtt, where applications and tests can
substitute their own implementations.

Each interface has an implementation in dtt and a fake in L{dtt.testing}; both
pass the same tests.  The attrs classes are the values that pass through these
interfaces.

Sizes and units used throughout: a I{peer id} is the 32-byte Ed25519 public key
of a member; a I{node id} is the 20-byte id of a DHT node; a I{topic id} is 32
bytes; times are in seconds.
"""

from dtt.interfaces.addresses import IAddressBook as IAddressBook
from dtt.interfaces.addresses import PeerId as PeerId
from dtt.interfaces.dht import IDHT as IDHT
from dtt.interfaces.dht import Contact as Contact
from dtt.interfaces.dht import InfohashSample as InfohashSample
from dtt.interfaces.dht import IPlacement as IPlacement
from dtt.interfaces.dht import MutableRead as MutableRead
from dtt.interfaces.dht import NodeAnswer as NodeAnswer
from dtt.interfaces.dht import PutResult as PutResult
from dtt.interfaces.dht import ServedItem as ServedItem
from dtt.interfaces.gossip import GossipObserver as GossipObserver
from dtt.interfaces.gossip import IGossip as IGossip
from dtt.interfaces.gossip import LinkObserver as LinkObserver
from dtt.interfaces.gossip import TopicObserver as TopicObserver
from dtt.interfaces.transport import ILinkPaths as ILinkPaths
from dtt.interfaces.transport import IListener as IListener
from dtt.interfaces.transport import IPeerTransport as IPeerTransport
from dtt.interfaces.transport import ITopicLinks as ITopicLinks
from dtt.interfaces.transport import LinkPath as LinkPath
from dtt.wire.values import GossipMessage as GossipMessage
