"""
The interface of a discovery channel: one way in which members of a topic find
each other.

The tracker uses all channels of a topic at the same time, through
L{Channels<dtt.discovery.channels.Channels>}.  All implementations pass the same
tests (C{tests/discovery/test_interfaces.py}).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from attrs import frozen
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from dtt.discovery.candidates import FoundRecord
from dtt.records.record import RecordContent

#: Called with each record that is found.
RecordSink: TypeAlias = Callable[[FoundRecord], None]

#: Returns what our record is to contain now.
ContentSource: TypeAlias = Callable[[], RecordContent]


@frozen(slots=True)
class SearchState:
    """
    The state of a search: of a member without a neighbour, which wants to find
    others soon.

    @ivar alone_for: seconds since the search began.
    @ivar rounds: the number of earlier calls of L{IDiscoveryChannel.find} in this
        search.
    @ivar is_joining: returns whether a member that this call has found is being
        joined.  A channel can then omit what costs more traffic.
    """

    alone_for: float
    rounds: int
    is_joining: Callable[[], bool]


class IDiscoveryChannel(Interface):
    """
    One way to find the members of a topic, and to be found by them.

    A channel knows where records are found, how long they are valid, and how much
    traffic a call may cause.  It reports members; whether and when they are joined
    is decided by its users.  Errors of other parties are counted, and never leave
    the channel.
    """

    name = Attribute("Its name in logs, in C{snake_case}.")

    on_record = Attribute(
        "An attribute to set: called with each record of another member as soon as it arrives, whatever "
        "caused it to be read, and possibly more than once."
    )

    def when_ready() -> Deferred[None]:
        """
        Wait until the channel can be used.  Before that, L{find} finds nothing.

        @return: fires then; can be cancelled.
        """

    def find(source: str, search: SearchState | None = None) -> Deferred[list[FoundRecord]]:
        """
        Search for members once.

        @param source: the service that searches, for
            L{RecordFound<dtt.events.RecordFound>}.
        @param search: the state of the search; C{None}: we have neighbours, and
            traffic matters more than time.
        @return: fires with the records of other members; empty if none is found, or
            if the channel can't be used now.  The next search begins when the slowest
            channel has ended, so this takes seconds at most.  Can be cancelled.
        """

    def watch(source: str) -> Deferred[list[FoundRecord]]:
        """
        Look for newcomers: at little cost, since it is called every few seconds while we
        have neighbours.

        @param source: the service that watches, as for L{find}.
        @return: as for L{find}.
        """

    def publish(content: ContentSource, source: str, urgent: bool = False) -> Deferred[int]:
        """
        Publish our record now.  Called about once per minute, so a channel whose
        records are valid for longer does nothing in most calls.

        @param content: returns the content of our record.  It is called as late as possible, since we learn
            our own addresses during a search, and possibly again for a retry.
        @param source: the service that publishes, as for L{find}.
        @param urgent: whether we have no neighbour, and want to be found soon.
        @return: fires with the number of places that are known to store one of our records; 0 if there is
            none.  Can be cancelled.
        """
