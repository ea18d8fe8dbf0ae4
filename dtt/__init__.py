"""
dtt, the Distributed Topic Tracker: members that know the same topic and secret
find each other through the public BitTorrent DHT, without any other server.

The public names are imported on first use, so that C{import dtt} stays cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dtt._version import __version__ as __version__

if TYPE_CHECKING:
    from dtt.config import Config as Config
    from dtt.dht.node import DHTNode as DHTNode
    from dtt.interfaces import GossipMessage as GossipMessage
    from dtt.interfaces import IGossipObserver as IGossipObserver
    from dtt.records.topic import TopicId as TopicId
    from dtt.tracker.topic import TopicService as TopicService
    from dtt.tracker.tracker import Tracker as Tracker

_PUBLIC = {
    "Config": "dtt.config",
    "DHTNode": "dtt.dht.node",
    "GossipMessage": "dtt.interfaces",
    "IGossipObserver": "dtt.interfaces",
    "TopicId": "dtt.records.topic",
    "TopicService": "dtt.tracker.topic",
    "Tracker": "dtt.tracker.tracker",
}

__all__ = [
    "Config",
    "DHTNode",
    "GossipMessage",
    "IGossipObserver",
    "TopicId",
    "TopicService",
    "Tracker",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
