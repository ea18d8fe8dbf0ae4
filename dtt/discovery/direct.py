"""
The direct query: is the node at this address a member of our topic?

Rules (docs/protocol/sealed.md section 4): a node that a channel has found, by an announcement or in the local
network, is queried for the direct item of the topic with one C{get}.  A member answers with its own record,
even if others have stored a value there.  The clocks of both may differ by hours: the minute of the record is
not checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final, TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from dtt.deferreds import cancel_if_active
from dtt.discovery.candidates import FoundRecord
from dtt.discovery.shared import SharedServices
from dtt.errors import DecodeError, LookupFailed, QueryRefused, QueryTimeout, RecordRefused
from dtt.interfaces import ServedItem
from dtt.net.host_port import HostPort
from dtt.records.record import ENTROPY_BYTES, Record, RecordContent
from dtt.records.sealed import EPOCH_MINUTES, HiddenItem, direct_item, epoch_of
from dtt.records.topic import TopicKeys, unix_minute

#: How often a node is queried if it does not answer (guess: UDP loses datagrams).
ATTEMPTS: Final = 2

#: Seconds after which it is checked at the latest which epoch this is (guess).
CHECK_INTERVAL: Final = 600.0

#: Seconds for which our own record is used again, even if its content has changed (guess:
#: making one takes a millisecond, and anyone who knows the secret can ask).
KEPT: Final = 1.0

#: Returns the content of our record; C{None}: there is none.
OptionalContentSource: TypeAlias = Callable[[], RecordContent | None]


class DirectQuestion:
    """
    Queries nodes for their records of a topic, and answers the same query.

    @ivar counters: C{asked}, C{opened}, C{silent} (no answer), C{empty} (an answer without
        a record) and C{refused_REASON}.
    """

    def __init__(
        self,
        shared: SharedServices,
        keys: TopicKeys,
        content: OptionalContentSource,
        entropy: Callable[[int], bytes] | None = None,
    ) -> None:
        """
        @param shared: the services of the tracker.
        @param keys: the keys of the topic.
        @param content: returns the content of our record; C{None}: there is none.
        @param entropy: returns the given number of random bytes, for encryption;
            C{None}: those of C{shared.rng}.
        """
        self.counters: Counter[str] = Counter()
        self._shared = shared
        self._reactor = shared.reactor
        self._keys = keys
        self._content = content
        self._entropy = entropy or shared.rng.randbytes
        self._epoch = -1
        # The items of the current epoch and its neighbours, and our records in them with
        # their content, their minute and the time at which they were made.
        self._items: dict[bytes, HiddenItem] = {}
        self._made: dict[bytes, tuple[RecordContent, int, float, ServedItem]] = {}
        self._end: Callable[[], None] | None = None
        self._renewing: IDelayedCall | None = None

    def start(self) -> None:
        """
        Answer the question from now on, unless we don't publish records.
        """
        if self._end is None and self._shared.config.bootstrap.max_bootstrap_records:
            self._serve()

    def stop(self) -> None:
        """
        Don't answer any longer.
        """
        cancel_if_active(self._renewing)
        if self._end is not None:
            self._end()
            self._end = None

    def _serve(self) -> None:
        """
        Answer for the items of the current epoch and its neighbours, until that ends.  A
        clock that is set is noticed within C{CHECK_INTERVAL}.
        """
        now = self._reactor.seconds()
        epoch = self._update(unix_minute(now))
        if self._end is not None:
            self._end()
        self._end = self._shared.dht.serve(self._items, self._served)
        left = (epoch + 1) * EPOCH_MINUTES * 60 - now
        self._renewing = self._reactor.callLater(min(left, CHECK_INTERVAL), self._serve)

    def ask_directly(self, address: HostPort) -> Deferred[list[FoundRecord]]:
        """
        Query the node at an address for its record.  The caller decides whether to send
        there: this works with private addresses, and while no DHT node is known.

        @param address: an IP literal, and the UDP port of a DHT node, 1..65535.
        @return: fires with its record, or with nothing if it does not answer, is not a member of the topic,
            or is ourselves.  Can be cancelled.
        """
        return Deferred.fromCoroutine(self._ask(*address))

    async def _ask(self, host: str, port: int) -> list[FoundRecord]:
        item = direct_item(self._keys, epoch_of(unix_minute(self._reactor.seconds())))
        for _ in range(ATTEMPTS):
            self.counters["asked"] += 1
            try:
                answer = await self._shared.dht.ask_node(host, port, item.public_key, item.salt)
            except QueryTimeout:
                continue
            except (QueryRefused, LookupFailed):
                break
            return self._opened(item, answer.value)
        self.counters["silent"] += 1
        return []

    def _opened(self, item: HiddenItem, value: bytes | None) -> list[FoundRecord]:
        if value is None:
            self.counters["empty"] += 1
            return []
        try:
            found = self._shared.read_content(item.open(value), self._shared.key.peer_id)
        except RecordRefused as refused:
            self.counters[f"refused_{refused.reason}"] += 1
            return []
        except DecodeError:
            self.counters["refused_content"] += 1
            return []
        if found.publisher == self._shared.key.peer_id:
            return []
        self.counters["opened"] += 1
        # It was made within the last second, at any moment of its minute: perhaps now.
        minute = 60.0 * found.minute
        now = self._reactor.seconds()
        self._shared.heard_clock(found.publisher, min(max(now, minute), minute + 60))
        self._shared.book.learn(found.publisher, found.addresses, "record")
        return [found]

    def _served(self, target: bytes) -> ServedItem | None:
        """
        Return our record, if C{target} is that of our direct item: for an asker whose clock
        is up to six hours off.
        """
        now = self._reactor.seconds()
        minute = unix_minute(now)
        self._update(minute)
        item = self._items.get(target)
        return None if item is None else self._record(item, minute, now)

    def _update(self, minute: int) -> int:
        """
        Make the items of an epoch and its neighbours; return the epoch.
        """
        epoch = epoch_of(minute)
        if epoch != self._epoch:
            self._epoch = epoch
            items = (direct_item(self._keys, each) for each in range(max(0, epoch - 1), epoch + 2))
            self._items = {item.target: item for item in items}
            self._made.clear()
        return epoch

    def _record(self, item: HiddenItem, minute: int, now: float) -> ServedItem | None:
        made = self._made.get(item.target)
        if made is not None and 0 <= now - made[2] < KEPT:
            return made[3]
        content = self._content()
        if content is None:
            return None
        if made is not None and made[:2] == (content, minute):
            return made[3]
        record = Record.sign_at(self._shared.key, self._keys.topic_id, minute, content.encode())
        value = item.seal(record, self._entropy(ENTROPY_BYTES))
        served = ServedItem(item.signing_seed, item.salt, value)
        self._made[item.target] = content, minute, now, served
        return served
