"""
A fake of L{DiscoveryService<dtt.tracker.discover.DiscoveryService>}, made by
L{FakeTracker<dtt.testing.fake_tracker.FakeTracker>}.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, succeed

from dtt.arguments import check_bytes, check_id
from dtt.errors import UsageError
from dtt.records.topic import TopicId
from dtt.tracker.discover import DiscoveryService, Found, check_content

# The minute of the records of a publisher, unless the test has set another.
_MINUTE = 30_000_000


class FakeDiscoveryService(DiscoveryService):
    """
    Discovery whose finds come from the test.
    """

    def __init__(
        self, topic_id: TopicId, content: bytes | None, forget: Callable[[FakeDiscoveryService], None]
    ) -> None:
        """
        @param topic_id: the topic.
        @param content: as for C{discover}.
        @param forget: called when the topic is left.
        """
        check_content(content)
        MultiService.__init__(self)
        self.topic_id = topic_id
        self._content = content
        self._forget_fake = forget
        self._found = {}
        self._observers = {}
        self._feeds = {}
        self._over = False

    def find(self, publisher: bytes, content: bytes, minute: int | None = None) -> None:
        """
        Let the application find a publisher.

        @param publisher: its peer id, any 32 bytes.
        @param content: the published content.
        @param minute: the unix minute of its record; C{None}: that of its previous one.  An older record is
            ignored.
        @raise ContentTooLarge: nobody can publish a content of this size.
        @raise UsageError: the tracker has not started.
        @raise TopicLeft: the topic was left.
        """
        check_id("publisher", publisher)
        check_bytes("content", content)
        check_content(content)
        self._check_not_left()
        if not self.running:
            raise UsageError("the tracker has not started: call its startService() first")
        known = self._found.pop(publisher, None)
        if minute is None:
            minute = _MINUTE if known is None else known.minute
        if known is not None and minute < known.minute:
            self._found[publisher] = known
            return
        found = self._found[publisher] = Found(publisher, content, minute, "fake")
        if known is not None and known.content == content:
            return
        for key, observer in tuple(self._observers.items()):
            if key in self._observers:  # an earlier one may have ended its subscription
                self._tell(observer, found)
        for feed in tuple(self._feeds):
            feed.put(found)

    def __repr__(self) -> str:
        return f"<FakeDiscoveryService {self.topic_id.hex()[:10]}>"

    def publish(self, content: bytes | None) -> None:
        """
        Have another C{content} from now on.
        """
        check_content(content)
        self._check_not_left()
        self._content = content

    def startService(self) -> None:
        """
        Start; there are no channels to start.
        """
        if self.running or self._over:
            raise UsageError("this service was already started: create a new one")
        MultiService.startService(self)

    def unreadable(self) -> int:
        """
        Return 0: there are no records.
        """
        return 0

    def counters(self) -> dict[str, int]:
        """
        Return nothing: there are no records.
        """
        return {}

    def leave(self) -> Deferred[None]:
        """
        End.
        """
        self.is_leaving = True
        if self.parent is not None and not self._over:
            self.disownServiceParent()
        return self.stopService()

    def stopService(self) -> Deferred[None]:
        """
        End.
        """
        if not self._over:
            self._over = True
            self._observers.clear()
            for feed in tuple(self._feeds):
                feed.end()
            self._feeds.clear()
            self._forget_fake(self)
        MultiService.stopService(self)
        return succeed(None)

    def network_changed(self) -> None:
        """
        Do nothing: there is no network.
        """
