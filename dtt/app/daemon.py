"""
The service that C{twistd dtt} runs: a tracker, its HTTP interface, and notifications for a service manager.

The services form a tree::

    Daemon
     +- Tracker          dtt.tracker.tracker
     +- WebService       dtt.web.service: the Unix socket, and the status page if asked for
     +- NotifyService    dtt.app.systemd: starts last, so that it reports readiness of all others

L{Daemon.reload} reads the settings again: topics that were added are joined, those that were
removed are left, and all others stay unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import fields, frozen
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorUNIX
from twisted.logger import Logger

from dtt.app.messages import one_line
from dtt.app.options import TopicSettings
from dtt.app.systemd import Notifier, NotifyService
from dtt.config import Config
from dtt.errors import AlreadyJoined, DTTError
from dtt.events import EventSink
from dtt.tracker.tracker import Tracker, log_event
from dtt.web.service import WebService

_log = Logger()


@frozen(slots=True)
class Settings:
    """
    The contents of the options and the configuration file.

    @ivar config: the settings.
    @ivar topics: the topics to join.
    """

    config: Config
    topics: Sequence[TopicSettings]


class Daemon(MultiService):
    """
    A tracker with the other parts of a service.

    @ivar tracker: the tracker.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        reread: Callable[[], Settings] | None = None,
        notifier: Notifier | None = None,
        on_event: EventSink = log_event,
    ) -> None:
        """
        @param reactor: the reactor of the tracker; without C{IReactorUNIX} there is no HTTP
            interface.
        @param settings: the contents of the options and the configuration file.
        @param reread: reads them again; raises L{DTTError<dtt.errors.DTTError>}.  C{None}:
            there is nothing to read.
        @param notifier: notifies the service manager; C{None}: there is none.
        @param on_event: called with each event.
        @raise DTTError: the state directory, the key or a transport can't be used.
        """
        super().__init__()
        self._settings = settings
        self._reread = reread
        self._notifier = notifier or Notifier({})
        self.tracker = Tracker(reactor, settings.config, on_event)
        self.tracker.setServiceParent(self)
        self._joined: dict[bytes, bytes] = {}
        for topic in settings.topics:
            self._join(topic)
        self._leaving: dict[bytes, Deferred[None]] = {}
        state_dir = settings.config.state_dir
        if IReactorUNIX.providedBy(reactor) and state_dir is not None:
            web = WebService(reactor, self.tracker, settings.config.web, state_dir.absolute())
            web.setServiceParent(self)
        NotifyService(reactor, self._notifier).setServiceParent(self)

    def reload(self) -> None:
        """
        Read the settings again, and join and leave topics accordingly.  If they can't be
        read, nothing changes, and the reason is logged.
        """
        if self._reread is None or not self.running:
            return
        self._notifier.reloading()
        try:
            settings = self._reread()
        except DTTError as error:
            _log.error(
                "The settings could not be read again, and nothing has changed: {reason}",
                reason=one_line(str(error)),
            )
        else:
            self._apply(settings)
        self._notifier.say("READY=1")

    def _apply(self, settings: Settings) -> None:
        before, self._settings = self._settings, settings
        wanted = {bytes(topic.topic_id): topic for topic in settings.topics}
        left = [each for each in self._joined if each not in wanted]
        changed = [
            each
            for each, secret in self._joined.items()
            if each in wanted and (wanted[each].secret or b"") != secret
        ]
        added = [each for each in wanted if each not in self._joined]
        for topic_id in (*left, *changed):
            self._leave(topic_id)
        for topic_id in (*added, *changed):
            self._join_when_left(wanted[topic_id])
        _log.info(
            "Read the settings again: {added} joined, {left} left, {changed} rejoined with another "
            "secret, {kept} unchanged.",
            added=len(added),
            left=len(left),
            changed=len(changed),
            kept=len(wanted) - len(added) - len(changed),
        )
        others = [
            field.name
            for field in fields(Config)
            if getattr(before.config, field.name) != getattr(settings.config, field.name)
        ]
        if others:
            _log.warn(
                "Only topics change without a restart; restart to apply the new value of {names}.",
                names=", ".join(others),
            )

    def _leave(self, topic_id: bytes) -> None:
        del self._joined[topic_id]
        for topic in self.tracker.topics():
            if topic.topic_id == topic_id:
                self._leaving[topic_id] = topic.leave().addBoth(self._left, topic_id)

    def _left(self, _: object, topic_id: bytes) -> None:
        self._leaving.pop(topic_id, None)

    def _join_when_left(self, topic: TopicSettings) -> None:
        """
        Join a topic, which is possible once it is left.
        """
        leaving = self._leaving.get(bytes(topic.topic_id))
        if leaving is None:
            self._join(topic)
            return

        def join(_: object) -> None:
            # Another reload may have removed it meanwhile.
            if self.running and any(each is topic for each in self._settings.topics):
                self._join(topic)

        leaving.addCallback(join)

    def _join(self, topic: TopicSettings) -> None:
        self._joined[bytes(topic.topic_id)] = topic.secret or b""
        try:
            self.tracker.join(topic.topic_id, secret=topic.secret or b"")
        except AlreadyJoined:
            _log.warn(
                "Topic {name} was already joined through the HTTP interface; it stays unchanged.",
                name=topic.name,
            )
