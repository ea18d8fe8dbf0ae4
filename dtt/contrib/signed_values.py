"""
Replicated state in which each member has one value, signed with its key.

Rules (docs/how-to/state.md section "Signed values"): the author of an entry is the peer id, the
version is a time, and the value begins with the signature
(L{Tracker.sign<dtt.tracker.tracker.Tracker.sign>}) over the version and the rest, in a
context with the id of the topic.  Thus nobody can write for another member, change its value, or move the
value to another topic.
"""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType
from typing import Final

from attrs import evolve
from twisted.internet.interfaces import IReactorTime

from dtt.arguments import check_bytes, check_function, check_type
from dtt.contrib.latest import Entry, LatestValues, Limits
from dtt.errors import UsageError
from dtt.identity import KEY_BYTES, SIGNATURE_BYTES
from dtt.tracker.topic import TopicService
from dtt.tracker.tracker import Tracker

_CONTEXT: Final = b"dtt-lv1 signed value "


class SignedValues:
    """
    One value for each member of a topic.

    @ivar latest: the state below, for its counters.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        tracker: Tracker,
        topic: TopicService,
        *,
        on_change: Callable[[bytes, bytes], object] = lambda peer_id, value: None,
        limits: Limits | None = None,
    ) -> None:
        """
        @param reactor: the clock.
        @param tracker: signs our value.
        @param topic: a topic of the tracker.
        @param on_change: called with the peer id (32 bytes) and the value when another
            member's value is new.
        @param limits: limits; the limit for values does not include the signature.  C{None}: the defaults.
        @raise WrongType: an argument has a wrong type.
        @raise UsageError: the topic is not one of the tracker.
        @raise TopicLeft: the topic was left.
        """
        check_type("tracker", tracker, Tracker, "a Tracker")
        check_type("topic", topic, TopicService, "the result of Tracker.join()")
        check_function("on_change", on_change)
        check_type("limits", limits, (Limits, NoneType), "Limits")
        if topic.signing.own_id != tracker.peer_id:
            raise UsageError("the topic is not one of this tracker")
        limits = limits or Limits()
        self._reactor = reactor
        self._tracker = tracker
        self._context = _CONTEXT + topic.topic_id
        self._most = limits.value
        self.latest = LatestValues(
            reactor,
            topic,
            check=self._is_signed,
            on_change=lambda entry: on_change(entry.author, entry.value[SIGNATURE_BYTES:]),
            limits=evolve(limits, value=limits.value + SIGNATURE_BYTES),
        )

    def set(self, value: bytes) -> None:
        """
        Replace our value, at all members.

        @param value: the value, at most C{limits.value} bytes.
        @raise WrongType: it is not C{bytes}.
        @raise UsageError: it is larger, or L{close} was called.
        @raise TopicLeft: the topic was left.
        """
        check_bytes("value", value)
        if len(value) > self._most:
            raise UsageError(f"a value has at most {self._most} bytes here, not {len(value)}")
        known = self.latest.get(self._tracker.peer_id)
        version = max(int(self._reactor.seconds() * 1000), 0 if known is None else known.version + 1)
        signature = self._tracker.sign(self._context, version.to_bytes(8, "big") + value)
        self.latest.put(self._tracker.peer_id, version, signature + value)

    def get(self, peer_id: bytes) -> bytes | None:
        """
        Return a member's value; C{None} if it has none.

        @param peer_id: 32 bytes.
        """
        entry = self.latest.get(peer_id)
        return None if entry is None else entry.value[SIGNATURE_BYTES:]

    def values(self) -> dict[bytes, bytes]:
        """
        Return the value of each member, by its peer id.
        """
        return {entry.author: entry.value[SIGNATURE_BYTES:] for entry in self.latest.entries()}

    def close(self) -> None:
        """
        Stop; see L{LatestValues.close}.
        """
        self.latest.close()

    def _is_signed(self, entry: Entry) -> bool:
        signature, value = entry.value[:SIGNATURE_BYTES], entry.value[SIGNATURE_BYTES:]
        return len(entry.author) == KEY_BYTES and self._tracker.verify(
            entry.author, self._context, entry.version.to_bytes(8, "big") + value, signature
        )
