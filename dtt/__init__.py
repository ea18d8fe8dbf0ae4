"""
dtt, the Distributed Topic Tracker: members that know the same topic and secret
find each other through the public BitTorrent DHT, without any other server.

The public names are imported on first use, so C{import dtt} stays fast: the command C{dtt} must prepare its
process first.
"""

# Defined here, because C{typing} is slow to import; type checkers know the name.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from dtt._version import __version__ as __version__
    from dtt.config import Config as Config
    from dtt.dht.node import DHTNode as DHTNode
    from dtt.identity import PeerKey as PeerKey
    from dtt.interfaces import GossipMessage as GossipMessage
    from dtt.interfaces import GossipObserver as GossipObserver
    from dtt.records.topic import TopicId as TopicId
    from dtt.tracker.discover import DiscoveryService as DiscoveryService
    from dtt.tracker.discover import Found as Found
    from dtt.tracker.topic import TopicService as TopicService
    from dtt.tracker.tracker import Tracker as Tracker

_PUBLIC = {
    "Config": "dtt.config",
    "DHTNode": "dtt.dht.node",
    "DiscoveryService": "dtt.tracker.discover",
    "Found": "dtt.tracker.discover",
    "GossipMessage": "dtt.interfaces",
    "GossipObserver": "dtt.interfaces",
    "PeerKey": "dtt.identity",
    "TopicId": "dtt.records.topic",
    "TopicService": "dtt.tracker.topic",
    "Tracker": "dtt.tracker.tracker",
    "__version__": "dtt._version",
}

__all__ = [
    "Config",
    "DHTNode",
    "DiscoveryService",
    "Found",
    "GossipMessage",
    "GossipObserver",
    "PeerKey",
    "TopicId",
    "TopicService",
    "Tracker",
    "__version__",
]


def __getattr__(name: str) -> "Any":
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
