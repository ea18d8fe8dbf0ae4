"""
Reports a topic without neighbours to the operator: after 1, 10 and 60 minutes, and then every hour, with the
reason if it is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall

from dtt.deferreds import cancel_if_active
from dtt.discovery.record_slot import RecordClient
from dtt.discovery.shared import SharedServices
from dtt.events import MembersUnreachable, TopicAlone, count_of
from dtt.interfaces import GossipMessage, IGossip, PeerId

#: Seconds without a neighbour after which it is reported; then every L{INTERVAL}
#: seconds (guesses: most members are found within seconds).
AFTER: Final = (60.0, 600.0, 3600.0)
INTERVAL: Final = 3600.0

#: Seconds without a neighbour after which it is reported that all members that were found could not
#: be reached (guess: a dial takes 5 s, and the second one may succeed).
UNREACHABLE_AFTER: Final = 12.0

#: Reasons for which a dial fails only if a host was reached, so no NAT is in the way.
_ANSWERED: Final = frozenset(("refused", "connection refused", "wrong peer key", "handshake failed"))
#: Seconds without a neighbour after which a reason is available (guess: most members are found before).
EARLY: Final = 10.0

#: The maximum number of unreachable members that are remembered (guess).
MAX_FAILED: Final = 64

NO_DHT: Final = (
    "no DHT node answers; check this machine's network, whether UDP passes its firewall, and the bootstrap "
    "hosts"
)
NATS: Final = (
    "and none has reached us; they have stopped recently, or both sides are behind NATs or firewalls: open "
    "or forward the ports of --listen (TCP) and --dht-port (UDP) on one of the machines, or use iroh with a "
    "relay"
)
GONE: Final = (
    "their hosts answered, but no such member runs there: they have stopped recently, or someone who knows "
    "the secret has made their records up; members that do run are found as soon as their records are"
)
THEIRS: Final = (
    "and none has reached us, although we are not behind a NAT: they are behind firewalls, have stopped "
    "recently, or someone who knows the secret has made their records up"
)
SYMMETRIC: Final = (
    "both sides are behind symmetric NATs and no member is reachable: switch on PCP, NAT-PMP or UPnP in one "
    "of the routers, forward the ports of --listen (TCP) and --dht-port (UDP) there, or run a member on a "
    "machine that both can reach"
)
OUR_SYMMETRIC: Final = (
    "we are behind a symmetric NAT, and the other side is behind a NAT or firewall, too: switch on PCP, "
    "NAT-PMP or UPnP in one of the routers, forward the ports of --listen (TCP) and --dht-port (UDP) there, "
    "or run a member on a machine that both can reach"
)
OTHER_SECRET: Final = (
    "in the DHT that our secret does not decrypt, and none that it does; compare the secret_code of "
    "dtt slot --topic TOPIC --secret-file FILE on both sides"
)
NO_READ: Final = "the records in the DHT can't be read; too few DHT nodes answer"
NOBODY: Final = (
    "there is no record of another member in the DHT; no other member is running, or it has another "
    "topic, or its clock differs"
)


class AloneReporter(Service):
    """
    Emits L{TopicAlone<dtt.events.TopicAlone>}.
    """

    def __init__(
        self, shared: SharedServices, gossip: IGossip, records: RecordClient, topic_id: bytes
    ) -> None:
        """
        @param shared: the services of the tracker.
        @param gossip: the gossip of the topic.
        @param records: the records of the topic.
        @param topic_id: 32 bytes.
        """
        self._shared = shared
        self._gossip = gossip
        self._records = records
        self._topic_id = topic_id
        self._since = 0.0
        self._unsubscribe: Callable[[], None] = lambda: None
        self._reports = 0
        self._timer: IDelayedCall | None = None
        self._soon: IDelayedCall | None = None
        self._said_unreachable = False
        # Why each member could not be reached, the latest last, and whether it seems to be
        # behind a symmetric NAT.
        self._failed: dict[PeerId, tuple[str, bool]] = {}

    def startService(self) -> None:
        """
        Wait for neighbours.
        """
        super().startService()
        self._begin()
        self._unsubscribe = self._gossip.subscribe(self)

    def stopService(self) -> None:
        """
        Stop.
        """
        super().stopService()
        self._unsubscribe()
        cancel_if_active(self._timer)
        cancel_if_active(self._soon)

    def peer_failed(self, peer: PeerId, reason: str, tried: Sequence[str] = ()) -> None:
        """
        Remember that a member could not be reached.

        @param tried: the kinds of its addresses, see
            L{kinds_of<dtt.wire.addresses.kinds_of>}.
        """
        self._failed.pop(peer, None)
        if len(self._failed) >= MAX_FAILED:
            del self._failed[next(iter(self._failed))]
        # Such a member knows no external address for its UDP socket.
        over_quic = {kind for kind in tried if kind.startswith("quic ")}
        self._failed[peer] = (reason, bool(over_quic) and "quic global" not in over_quic)
        if self._shared.reactor.seconds() >= self._since + UNREACHABLE_AFTER:
            self._report_unreachable()

    def neighbor_up(self, peer_id: PeerId) -> None:
        """
        Stop waiting: there is a neighbour.
        """
        cancel_if_active(self._timer)
        cancel_if_active(self._soon)
        self._failed.clear()

    def neighbor_down(self, peer_id: PeerId) -> None:
        """
        If it was the last neighbour, wait for others.
        """
        if not self._gossip.neighbors() and self.running:
            self._begin()

    def message_received(self, message: GossipMessage) -> None:
        """
        Do nothing.
        """

    def _begin(self) -> None:
        self._since = self._shared.reactor.seconds()
        self._reports = 0
        self._said_unreachable = False
        cancel_if_active(self._soon)
        self._soon = self._shared.reactor.callLater(UNREACHABLE_AFTER, self._report_unreachable)
        self._wait()

    def _wait(self) -> None:
        count = self._reports
        after = AFTER[count] if count < len(AFTER) else AFTER[-1] + (count + 1 - len(AFTER)) * INTERVAL
        cancel_if_active(self._timer)
        seconds = max(0.0, self._since + after - self._shared.reactor.seconds())
        self._timer = self._shared.reactor.callLater(seconds, self._report, after)

    def _report(self, seconds: float) -> None:
        self._reports += 1
        self._wait()
        self._shared.emit(TopicAlone(self._topic_id, int(seconds), self._reason()))

    def _report_unreachable(self) -> None:
        if self._failed and not self._said_unreachable and self.running and not self._gossip.neighbors():
            self._said_unreachable = True
            last = list(self._failed.values())[-1][0]
            reason = f"{last}{self._advice()}"
            self._shared.emit(MembersUnreachable(self._topic_id, len(self._failed), reason))

    def _advice(self) -> str:
        """
        Return the probable reason why found members were not reached, and what to do, as the end of a
        sentence; empty if it is unknown.
        """
        if all(_ANSWERED.issuperset(reason.split(", ")) for reason, _ in self._failed.values()):
            return f"; {GONE}"
        if self._shared.reachable():
            return ""
        if self._shared.symmetric():
            both = all(is_symmetric for _, is_symmetric in self._failed.values())
            return f"; {SYMMETRIC if both else OUR_SYMMETRIC}"
        return f", {THEIRS if self._shared.behind_nat() is False else NATS}"

    def reason(self) -> str | None:
        """
        Return why there is no neighbour; C{None} while there is one, or while it is too early to tell.
        """
        if self._gossip.neighbors() or not self.running:
            return None
        return None if self._shared.reactor.seconds() < self._since + EARLY else self._reason()

    def _reason(self) -> str:
        """
        Return the known or probable reason why there is no neighbour.
        """
        reached: list[int] = []
        # It fails if the application has stopped its node.
        ready = self._shared.dht.when_ready().addCallbacks(reached.append, lambda _: None)
        if not reached:
            ready.cancel()
            return NO_DHT
        summary = self._records.summary()
        if self._failed:
            members = count_of(len(self._failed), "member")
            last = list(self._failed.values())[-1][0]
            return f"of {members} found, none could be reached ({last}){self._advice()}"
        if summary.found:
            return f"{count_of(summary.found, 'member')} found, but none has become a neighbour yet"
        if summary.unreadable:
            return f"{count_of(summary.unreadable, 'record')} {OTHER_SECRET}"
        return NO_READ if summary.failed else NOBODY
