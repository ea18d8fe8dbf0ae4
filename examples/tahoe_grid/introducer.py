"""
The foolscap interface of Tahoe's introducer, for one node on the same machine.

The node uses this as its introducer: it publishes its announcements here, and subscribes to those of others
(C{allmydata/introducer/interfaces.py} of Tahoe-LAFS).
"""

# mypy: allow-untyped-calls, disable-error-code="attr-defined, misc, no-untyped-def"
# foolscap has no types, and its interfaces have methods without self.

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from announcement import Announcement
from foolscap.api import Any as AnyValue
from foolscap.api import DictOf, Referenceable, RemoteInterface, SetOf
from twisted.logger import Logger
from zope.interface import implementer

# The services that a node subscribes to.
_VERSIONS = {
    b"http://allmydata.org/tahoe/protocols/introducer/v2": {},
    b"application-version": b"dtt tahoe_grid",
}

# More subscriptions than this are refused: the node has one for each kind of service.
_MAX_SUBSCRIPTIONS = 16


class RIIntroducerSubscriberClient_v2(RemoteInterface):  # noqa: N801
    """
    A node that receives announcements.
    """

    __remote_name__ = "RIIntroducerSubscriberClient_v2.tahoe.allmydata.com"

    def announce_v2(announcements=SetOf(AnyValue())):  # noqa: N805, B008
        """
        Take announcements.
        """
        return


class RIIntroducerPublisherAndSubscriberService_v2(RemoteInterface):  # noqa: N801
    """
    An introducer.
    """

    __remote_name__ = "RIIntroducerPublisherAndSubscriberService_v2.tahoe.allmydata.com"

    def get_version():
        """
        Return the versions of the protocol.
        """
        return DictOf(bytes, AnyValue())

    def publish_v2(announcement=AnyValue(), canary=Referenceable):  # noqa: N805, B008
        """
        Send an announcement to all nodes that have subscribed to its service.
        """
        return

    def subscribe_v2(
        subscriber=RIIntroducerSubscriberClient_v2,  # noqa: N805
        service_name=bytes,
        subscriber_info=DictOf(bytes, AnyValue()),  # noqa: B008
    ):
        """
        Send the announcements of a service to this subscriber.
        """
        return


@implementer(RIIntroducerPublisherAndSubscriberService_v2)
class LocalIntroducer(Referenceable):
    """
    An introducer that exchanges announcements through callbacks.
    """

    _log = Logger()

    def __init__(
        self, on_publish: Callable[[Announcement], None], known: Callable[[], Iterable[Announcement]]
    ) -> None:
        """
        @param on_publish: called with each announcement of the node.
        @param known: returns the announcements of all nodes.
        """
        self._on_publish = on_publish
        self._known = known
        self._subscribers: dict[Any, str] = {}

    def announce(self, announcement: Announcement) -> None:
        """
        Notify the node, if it has subscribed to the service.
        """
        for subscriber, service in tuple(self._subscribers.items()):
            if service == announcement.service:
                # Each in a separate call: an error in one does not affect the others.
                telling = subscriber.callRemote("announce_v2", {announcement.to_foolscap()})
                telling.addErrback(
                    lambda failure: self._log.warn("the node refused it: {why}", why=failure.value)
                )

    def remote_get_version(self) -> dict[bytes, object]:
        """
        Return the versions of the protocol.
        """
        return dict(_VERSIONS)

    def remote_publish_v2(self, announcement: object, canary: object) -> None:
        """
        Publish an announcement of the node.
        """
        self._on_publish(Announcement.from_foolscap(announcement))

    def remote_subscribe_v2(self, subscriber: Any, service_name: bytes, subscriber_info: object) -> None:
        """
        Send the node the known and later announcements of a service.
        """
        if len(self._subscribers) >= _MAX_SUBSCRIPTIONS:
            raise ValueError("too many subscriptions")
        service = service_name.decode("utf-8", "replace")
        self._subscribers[subscriber] = service
        subscriber.notifyOnDisconnect(self._subscribers.pop, subscriber, None)
        for announcement in self._known():
            if announcement.service == service:
                subscriber.callRemote("announce_v2", {announcement.to_foolscap()}).addErrback(lambda _: None)
