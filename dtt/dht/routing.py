"""
The routing table: k-buckets of nodes that have answered us.  Pure.

Rules (BEP5, "Routing Table"; Kademlia section 2.4): a bucket holds k nodes;
only the bucket that our own id falls in is split; a node enters after it has
answered a query.  Good: it answered, or having answered once it asked us
something, within 15 minutes.  Bad: it failed to answer two queries in a row.
A bad node is handed out no more and is the first to be replaced, but it stays
while nobody waits for its place: when it was our own network that was down,
it answers again.  In a full bucket a node whose id is valid for its address
(BEP42) takes the place of one whose id is not; where there is room, both are
welcome.  Read-only nodes (BEP43) are the caller's to keep out.

Outside closed networks an IP address (of IPv6, a /64) has one place in the
whole table, and a /24 one in a bucket, so that one host can't fill the table,
nor one network the nearest nodes.  A table has nodes of one address family
(BEP32).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import define

from dtt.dht.node_id import is_loopback, is_valid, site, subnet
from dtt.interfaces import Contact
from dtt.krpc.compact import encode_nodes

if TYPE_CHECKING:
    from random import Random

#: Nodes in a bucket (BEP5, k).
K: Final = 8

#: Seconds that a node stays good without a sign of life, and a bucket fresh
#: without a change (BEP5).
FRESH: Final = 15 * 60.0

#: Unanswered queries in a row that make a node bad (BEP5 says "multiple").
MAX_FAILURES: Final = 2

#: Nodes that wait for a place in a full bucket (Kademlia section 4.1; as many
#: as places: guess).
MAX_WAITING: Final = K

_BITS: Final = 160


@define(slots=True, eq=False, weakref_slot=False)
class _Entry:
    contact: Contact
    compact: bytes
    seen: float
    secure: bool
    failures: int = 0

    @property
    def number(self) -> int:
        return int.from_bytes(self.contact.node_id)

    @property
    def bad(self) -> bool:
        return self.failures >= MAX_FAILURES


class _Bucket:
    """
    @ivar entries: at most L{K}.
    @ivar waiting: contacts that answered while the bucket was full, and when, the latest last.
    @ivar changed: when a node in it last gave a sign of life.
    @ivar compact: the compact form of all entries while there are L{K} and none is bad.
    @ivar secure: whether the ids of all entries are valid (BEP42).
    """

    __slots__ = ("changed", "compact", "entries", "secure", "waiting")

    def __init__(self, changed: float) -> None:
        self.entries: list[_Entry] = []
        self.waiting: list[tuple[Contact, float]] = []
        self.changed = changed
        self.compact: bytes | None = None
        self.secure = True

    def update(self) -> None:
        """
        Make C{compact} and C{secure} true again.
        """
        self.secure = all(entry.secure for entry in self.entries)
        alive = [entry.compact for entry in self.entries if not entry.bad]
        self.compact = b"".join(alive) if len(alive) >= K else None

    def sorted(self, number: int) -> list[_Entry]:
        """
        The entries that are not bad, the nearest to C{number} first.
        """
        return sorted(
            (entry for entry in self.entries if not entry.bad), key=lambda entry: entry.number ^ number
        )


class RoutingTable:
    """
    The nodes of one address family that we know.

    @ivar own_id: 20 bytes; never enters the table.
    @ivar closed: whether many nodes may share an IP address (a network on
        loopback).
    """

    def __init__(self, own_id: bytes, now: float, *, closed: bool = False) -> None:
        self.own_id = own_id
        self.closed = closed
        self._own = int.from_bytes(own_id)
        self._buckets = [_Bucket(now)]
        self._by_id: dict[bytes, _Entry] = {}
        # By (host, port) in a closed network and on loopback, else by L{site}.
        self._by_place: dict[tuple[str, int] | str, _Entry] = {}
        self._alive = 0

    def __len__(self) -> int:
        """
        How many nodes are not bad.
        """
        return self._alive

    def _index(self, number: int) -> int:
        index = _BITS - (number ^ self._own).bit_length()
        last = len(self._buckets) - 1
        return index if index < last else last

    def _place(self, host: str, port: int) -> tuple[str, int] | str:
        return (host, port) if self.closed or is_loopback(host) else site(host)

    def _entry(self, contact: Contact) -> _Entry | None:
        entry = self._by_id.get(contact.node_id)
        return entry if entry is not None and entry.contact == contact else None

    # Changes

    def responded(self, contact: Contact, now: float) -> Contact | None:
        """
        C{contact} answered a query of ours.  It enters the table if there is
        a place for it.

        @return: a questionable node that should be pinged because C{contact}
            waits for its place (BEP5), or L{None}.
        """
        entry = self._entry(contact)
        if entry is not None:
            entry.seen = now
            bucket = self._buckets[self._index(entry.number)]
            bucket.changed = now
            if entry.failures:
                revived = entry.bad
                entry.failures = 0
                if revived:
                    self._alive += 1
                    bucket.update()
            return None
        number = int.from_bytes(contact.node_id)
        if number == self._own or not self._make_way(contact):
            return None
        bucket = self._buckets[self._index(number)]
        while len(bucket.entries) >= K and bucket is self._buckets[-1] and len(self._buckets) < _BITS:
            self._split()
            bucket = self._buckets[self._index(number)]
        if len(bucket.entries) >= K:
            yielding = self._yielding(bucket, contact)
            if yielding is None:
                return self._wait(bucket, contact, now)
            self._remove(yielding)
            if not yielding.bad:
                self._wait(bucket, yielding.contact, yielding.seen)
        self._add(bucket, contact, now)
        return None

    def _is_secure(self, contact: Contact) -> bool:
        return self.closed or is_valid(contact.node_id, contact.host)

    def _yielding(self, bucket: _Bucket, contact: Contact) -> _Entry | None:
        """
        Who leaves a full bucket for C{contact}?
        """
        bad = next((entry for entry in bucket.entries if entry.bad), None)
        if bad is not None or bucket.secure or not self._is_secure(contact):
            return bad
        return min((entry for entry in bucket.entries if not entry.secure), key=lambda entry: entry.seen)

    def heard(self, contact: Contact, now: float) -> bool:
        """
        C{contact}, which is not read-only, asked us something.

        @return: whether it should be pinged: it is new, and there is room for
            it if it answers.
        """
        entry = self._entry(contact)
        if entry is not None:
            entry.seen = now
            return False
        number = int.from_bytes(contact.node_id)
        bucket = self._buckets[self._index(number)]
        full = bucket.compact is not None and bucket is not self._buckets[-1]
        if full and (bucket.secure or not self._is_secure(contact)):
            return False
        for holder in (
            self._by_id.get(contact.node_id),
            self._by_place.get(self._place(contact.host, contact.port)),
            self._neighbour(contact),
        ):
            if holder is not None and not holder.bad:
                return False
        return number != self._own

    def failed(self, contact: Contact) -> None:
        """
        C{contact} did not answer a query in time.
        """
        entry = self._entry(contact)
        if entry is None:
            return
        entry.failures += 1
        if entry.failures != MAX_FAILURES:
            return
        self._alive -= 1
        bucket = self._buckets[self._index(entry.number)]
        bucket.update()
        # The latest whose ids are valid, then the latest of the others.
        bucket.waiting.sort(key=lambda place: (self._is_secure(place[0]), place[1]))
        while bucket.waiting:
            candidate, seen = bucket.waiting.pop()
            if self._make_way(candidate):
                if entry in bucket.entries:
                    self._remove(entry)
                self._add(bucket, candidate, seen)
                return

    def _make_way(self, contact: Contact) -> bool:
        # Whether neither id nor address is taken; what gives way is removed.
        # A good node keeps its id against a claim from elsewhere (BEP5); a
        # node that came back with a new id replaces itself.
        same_id = self._by_id.get(contact.node_id)
        if same_id is not None and not same_id.bad:
            return False
        same_place = self._by_place.get(self._place(contact.host, contact.port))
        if same_place is not None and not same_place.bad:
            there = same_place.contact
            if (there.host, there.port) != (contact.host, contact.port):
                return False
        neighbour = self._neighbour(contact)
        if neighbour is not None and neighbour is not same_place and not neighbour.bad:
            return False
        for entry in {id(e): e for e in (same_id, same_place, neighbour) if e is not None}.values():
            self._remove(entry)
        return True

    def _neighbour(self, contact: Contact) -> _Entry | None:
        """
        Who has the place of C{contact}'s network in its bucket?
        """
        if self.closed or is_loopback(contact.host):
            return None
        network = subnet(contact.host)
        bucket = self._buckets[self._index(int.from_bytes(contact.node_id))]
        return next((entry for entry in bucket.entries if subnet(entry.contact.host) == network), None)

    def _wait(self, bucket: _Bucket, contact: Contact, now: float) -> Contact | None:
        waiting = [place for place in bucket.waiting if place[0].node_id != contact.node_id]
        bucket.waiting = [*waiting[-(MAX_WAITING - 1) :], (contact, now)]
        oldest = min(bucket.entries, key=lambda entry: entry.seen)
        return oldest.contact if now - oldest.seen >= FRESH else None

    def _add(self, bucket: _Bucket, contact: Contact, now: float) -> None:
        entry = _Entry(contact, encode_nodes((contact,)), now, self._is_secure(contact))
        bucket.entries.append(entry)
        bucket.changed = max(bucket.changed, now)
        bucket.update()
        self._by_id[contact.node_id] = entry
        self._by_place[self._place(contact.host, contact.port)] = entry
        self._alive += 1

    def _remove(self, entry: _Entry) -> None:
        bucket = self._buckets[self._index(entry.number)]
        bucket.entries.remove(entry)
        bucket.update()
        contact = entry.contact
        del self._by_id[contact.node_id]
        del self._by_place[self._place(contact.host, contact.port)]
        self._alive -= not entry.bad

    def _split(self) -> None:
        old = self._buckets[-1]
        new = _Bucket(old.changed)
        self._buckets.append(new)
        last = len(self._buckets) - 1
        new.entries = [entry for entry in old.entries if self._index(entry.number) == last]
        old.entries = [entry for entry in old.entries if self._index(entry.number) != last]
        waiting, old.waiting = old.waiting, []
        for place in waiting:
            self._buckets[self._index(int.from_bytes(place[0].node_id))].waiting.append(place)
        old.update()
        new.update()

    # Questions

    def nearest(self, target: bytes, count: int = K) -> list[Contact]:
        """
        The C{count} known nodes nearest to C{target} (20 bytes), the nearest
        first; without bad ones.
        """
        return [entry.contact for entry in self._nearest(target, count)]

    def nearest_compact(self, target: bytes) -> bytes:
        """
        The 8 nearest nodes as compact node info (BEP5, BEP32; 26 or 38 bytes
        each), in no particular order: a full bucket's are kept ready
        (specs/dht.md section 6).
        """
        compact = self._buckets[self._index(int.from_bytes(target))].compact
        if compact is not None:
            return compact
        return b"".join([entry.compact for entry in self._nearest(target, K)])

    def _nearest(self, target: bytes, count: int) -> list[_Entry]:
        # Seen from the target, its own bucket is nearest, then all the deeper
        # ones mixed, then the shallower ones one after another.
        number = int.from_bytes(target)
        home = self._index(number)
        found = self._buckets[home].sorted(number)
        if len(found) < count and home + 1 < len(self._buckets):
            deeper = [entry for bucket in self._buckets[home + 1 :] for entry in bucket.sorted(number)]
            deeper.sort(key=lambda entry: entry.number ^ number)
            found += deeper
        while len(found) < count and home:
            home -= 1
            found += self._buckets[home].sorted(number)
        return found[:count]

    def contacts(self) -> list[Contact]:
        """
        All nodes, those that were heard of last first, bad ones at the end.
        """
        entries = sorted(self._by_id.values(), key=lambda entry: (entry.bad, -entry.seen))
        return [entry.contact for entry in entries]

    def refresh_targets(self, now: float, rng: Random) -> list[bytes]:
        """
        A random id in each bucket that did not change for L{FRESH} seconds,
        to be looked up (BEP5); the buckets count as changed now.
        """
        targets = []
        for index, bucket in enumerate(self._buckets):
            if now - bucket.changed < FRESH:
                continue
            bucket.changed = now
            free = _BITS - index
            number = (self._own >> free << free) | rng.getrandbits(free)
            if index < len(self._buckets) - 1:
                # In this bucket the first free bit is the opposite of ours.
                top = 1 << (free - 1)
                number = (number & ~top) | (~self._own & top)
            targets.append(number.to_bytes(20))
        return targets

    def with_id(self, own_id: bytes, now: float) -> RoutingTable:
        """
        A table with the same nodes around another C{own_id} (BEP42: our
        external address became known).
        """
        table = RoutingTable(own_id, now, closed=self.closed)
        for entry in sorted(self._by_id.values(), key=lambda entry: -entry.seen):
            if not entry.bad:
                table.responded(entry.contact, entry.seen)
        return table
