"""
The routing table: k-buckets of nodes that have responded to us. Pure.

Rules (BEP5, "Routing Table"; Kademlia section 2.4):
  - A bucket holds k nodes. Only the bucket that contains our own id is split. A node
    enters after it has answered a query.
  - A node is good if within 15 minutes it has answered, or, having answered once,
    queried us. It is bad if it has failed to answer two consecutive queries. A bad node
    is not handed out and is the first to be replaced, but it stays while no other node
    needs its place: if our own network was down, it will answer again.
  - In a full bucket, a node whose id is valid for its address (BEP42) replaces one
    whose id is not. Where there is room, both are accepted.
  - The caller keeps read-only nodes (BEP43) out.
  - Outside closed networks an IP address (IPv6: a /56) has one place in the whole
    table, and a /24 (a /48) one place in a bucket. So neither can one host fill the
    table nor one customer's line the nearest nodes: to split the bucket that contains
    our own id takes eight lines.
  - A table contains nodes of one address family (BEP32).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dtt.dht.routing.buckets import MAX_FAILURES, Bucket, Entry, K, contact_of
from dtt.dht.routing.ids import ID_SIZE, is_valid
from dtt.interfaces import Contact
from dtt.krpc.compact import ADDRESS_SIZE, decode_address, encode_address, encode_nodes
from dtt.net.networks import is_exempt, packed_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

#: Seconds that a node stays good after we last heard from it, and a bucket fresh after
#: its last change (BEP5).
FRESH: Final = 15 * 60.0

#: The most nodes in a bucket's replacement cache (Kademlia section 4.1; as many as a
#: bucket has: guess).
MAX_WAITING: Final = K

_BITS: Final = 160

# The first bytes of compact loopback addresses.
_LOOPBACK4: Final = 127
_LOOPBACK6: Final = bytes(15) + b"\x01"


class RoutingTable:
    """
    The known nodes of one address family.

    @ivar own_id: our 20-byte id, which never enters the table.
    @ivar closed: whether many nodes may share an IP address (a network on loopback).
    """

    def __init__(self, own_id: bytes, now: float, *, closed: bool = False) -> None:
        """
        @param own_id: our 20-byte id.
        @param now: the current time, seconds.
        @param closed: whether many nodes may share an IP address.
        """
        self.own_id = own_id
        self.closed = closed
        self._own = int.from_bytes(own_id)
        self._buckets = [Bucket(now)]
        self._by_place: dict[bytes, Entry] = {}
        self._alive = 0

    def __len__(self) -> int:
        """
        Return the number of nodes that are not bad.
        """
        return self._alive

    def __contains__(self, contact: Contact) -> bool:
        """
        Return whether a node holds a place.
        """
        return self._entry(contact) is not None

    @property
    def bad(self) -> int:
        """
        The number of bad nodes.
        """
        return len(self._by_place) - self._alive

    def _index(self, number: int) -> int:
        index = _BITS - (number ^ self._own).bit_length()
        last = len(self._buckets) - 1
        return index if index < last else last

    def _bucket(self, node_id: bytes) -> Bucket:
        return self._buckets[self._index(int.from_bytes(node_id))]

    def _place(self, address: bytes) -> bytes:
        # The key of which the table has one node: the compact address in a closed
        # network and on loopback, otherwise the IP, or its /56, or its /64 in a local
        # network.
        if len(address) == ADDRESS_SIZE:
            return address if self.closed or address[0] == _LOOPBACK4 else address[:4]
        if self.closed or address.startswith(_LOOPBACK6):
            return address
        return address[:8] if is_exempt(decode_address(address)[0]) else address[:7]

    def _entry(self, contact: Contact) -> Entry | None:
        entry = self._bucket(contact.node_id).find(contact.node_id)
        if entry is None or entry.address != encode_address(contact.host, contact.port):
            return None
        return entry

    # Changes

    def responded(self, contact: Contact, now: float) -> Contact | None:
        """
        Record that C{contact} answered one of our queries. It enters the table if there is
        a place for it.

        @return: a questionable node to ping because C{contact} is waiting for its place
            (BEP5), or C{None}.
        """
        entry = self._entry(contact)
        if entry is not None:
            entry.seen = now
            bucket = self._bucket(contact.node_id)
            bucket.changed = now
            if entry.failures:
                revived = entry.bad
                entry.failures = 0
                if revived:
                    self._alive += 1
                    bucket.update()
            return None
        if contact.node_id == self.own_id or not self._claim_place(contact):
            return None
        bucket = self._bucket(contact.node_id)
        while len(bucket.entries) >= K and bucket is self._buckets[-1] and len(self._buckets) < _BITS:
            self._split()
            bucket = self._bucket(contact.node_id)
        if len(bucket.entries) >= K:
            replaced = self._to_replace(bucket, contact)
            if replaced is None:
                return self._wait(bucket, encode_nodes((contact,)), now)
            self._remove(replaced)
            if not replaced.bad:
                self._wait(bucket, replaced.compact, replaced.seen)
        self._add(bucket, contact, now)
        return None

    def _is_secure(self, contact: Contact) -> bool:
        return self.closed or is_valid(contact.node_id, contact.host)

    def _to_replace(self, bucket: Bucket, contact: Contact) -> Entry | None:
        """
        Return the entry that C{contact} replaces in a full bucket, or C{None}.
        """
        bad = next((entry for entry in bucket.entries if entry.bad), None)
        if bad is not None or bucket.secure or not self._is_secure(contact):
            return bad
        return min((entry for entry in bucket.entries if not entry.secure), key=lambda entry: entry.seen)

    def heard(self, node_id: bytes, host: str, port: int, now: float) -> bool:
        """
        Record a query from a node that is not read-only.

        @return: whether to ping the node: it is new, and there is a place for it if it
            answers.
        """
        bucket = self._buckets[self._index(int.from_bytes(node_id))]
        entry = bucket.find(node_id)
        full = bucket.compact is not None and bucket is not self._buckets[-1]
        if entry is None and full and bucket.secure:  # the common case
            return False
        if entry is not None and entry.address == encode_address(host, port):
            entry.seen = now
            return False
        contact = Contact(node_id, host, port)
        if full and (bucket.secure or not self._is_secure(contact)):
            return False
        for holder in (entry, *self._holders(contact)):
            if holder is not None and not holder.bad:
                return False
        return node_id != self.own_id

    def failed(self, contact: Contact, *, replace: bool = True) -> None:
        """
        Record that C{contact} did not answer a query in time.

        @param replace: whether a waiting node may take its place.
        """
        entry = self._entry(contact)
        if entry is None:
            return
        entry.failures += 1
        if entry.failures != MAX_FAILURES:
            return
        self._alive -= 1
        bucket = self._bucket(contact.node_id)
        bucket.update()
        # The latest with a valid id, otherwise the latest.
        bucket.waiting.sort(key=lambda place: (self._is_secure(contact_of(place[0])), place[1]))
        while replace and bucket.waiting:
            compact, seen = bucket.waiting.pop()
            candidate = contact_of(compact)
            if self._claim_place(candidate):
                if entry in bucket.entries:
                    self._remove(entry)
                self._add(bucket, candidate, seen)
                return

    def _holders(self, contact: Contact) -> tuple[Entry | None, Entry | None]:
        """
        Return the entries that hold the place of C{contact}'s address in the table and
        the place of its network in its bucket.
        """
        address = encode_address(contact.host, contact.port)
        there = self._by_place.get(self._place(address))
        if self.closed or is_exempt(contact.host):
            return there, None
        size = len(packed_line(address[:-2]))
        entries = self._bucket(contact.node_id).entries
        network = address[:size]
        return there, next((each for each in entries if each.address.startswith(network)), None)

    def _claim_place(self, contact: Contact) -> bool:
        # Return whether id and address are available, after removing what they replace.
        # A good node keeps its id against a claim from another address (BEP5). A node
        # that returns with a new id replaces its old entry.
        same_id = self._bucket(contact.node_id).find(contact.node_id)
        if same_id is not None and not same_id.bad:
            return False
        there, neighbour = self._holders(contact)
        moved = there is not None and there.address != encode_address(contact.host, contact.port)
        if there is not None and not there.bad and moved:
            return False
        if neighbour is not None and neighbour is not there and not neighbour.bad:
            return False
        for entry in {id(e): e for e in (same_id, there, neighbour) if e is not None}.values():
            self._remove(entry)
        return True

    def _wait(self, bucket: Bucket, compact: bytes, now: float) -> Contact | None:
        waiting = [place for place in bucket.waiting if place[0][:ID_SIZE] != compact[:ID_SIZE]]
        bucket.waiting = [*waiting[-(MAX_WAITING - 1) :], (compact, now)]
        oldest = min(bucket.entries, key=lambda entry: entry.seen)
        return oldest.contact if now - oldest.seen >= FRESH else None

    def _add(self, bucket: Bucket, contact: Contact, now: float) -> None:
        entry = Entry(encode_nodes((contact,)), now, self._is_secure(contact))
        bucket.entries.append(entry)
        bucket.changed = max(bucket.changed, now)
        bucket.update()
        self._by_place[self._place(entry.address)] = entry
        self._alive += 1

    def _remove(self, entry: Entry) -> None:
        bucket = self._buckets[self._index(entry.number)]
        bucket.entries.remove(entry)
        bucket.update()
        del self._by_place[self._place(entry.address)]
        self._alive -= not entry.bad

    def _split(self) -> None:
        old = self._buckets[-1]
        new = Bucket(old.changed)
        self._buckets.append(new)
        last = len(self._buckets) - 1
        new.entries = [entry for entry in old.entries if self._index(entry.number) == last]
        old.entries = [entry for entry in old.entries if self._index(entry.number) != last]
        waiting, old.waiting = old.waiting, []
        for place in waiting:
            self._bucket(place[0][:ID_SIZE]).waiting.append(place)
        old.update()
        new.update()

    # Queries

    def nearest(self, target: bytes, count: int = K) -> list[Contact]:
        """
        Return the C{count} nodes nearest to C{target} (20 bytes) that are not bad,
        nearest first.
        """
        return [entry.contact for entry in self._nearest(target, count)]

    def nearest_compact(self, target: bytes) -> bytes:
        """
        Return the 8 nodes nearest to C{target} as compact node info (BEP5, BEP32;
        26 or 38 bytes each), in no particular order. For a full bucket it is prepared
        in advance (docs/protocol/dht.md section 6).
        """
        compact = self._buckets[self._index(int.from_bytes(target))].compact
        if compact is not None:
            return compact
        return b"".join([entry.compact for entry in self._nearest(target, K)])

    def _nearest(self, target: bytes, count: int) -> list[Entry]:
        number = int.from_bytes(target)

        def distance(entry: Entry) -> int:
            return int.from_bytes(entry.compact[:ID_SIZE]) ^ number

        found: list[Entry] = []
        for bucket in self._from(number):
            found += sorted(bucket.alive(), key=distance)
            if len(found) >= count:
                break
        return found[:count]

    def _from(self, number: int) -> Iterator[Bucket]:
        # Yield all buckets, nearest to an id first. The nodes of a bucket differ from
        # us in the bucket's bit. If the id differs there too, they are nearer than
        # those of all deeper buckets, otherwise farther. Hostile nodes can fill 160
        # buckets; sorting the nodes of all would take a millisecond.
        last = len(self._buckets) - 1
        home = self._index(number)
        same = []
        for index in range(home, last):
            if (number ^ self._own) >> (_BITS - 1 - index) & 1:
                yield self._buckets[index]
            else:
                same.append(index)
        yield self._buckets[last]
        for index in (*reversed(same), *range(min(home, last) - 1, -1, -1)):
            yield self._buckets[index]

    def contacts(self) -> list[Contact]:
        """
        Return all nodes, most recently heard from first, bad ones last.
        """
        entries = sorted(self._by_place.values(), key=lambda entry: (entry.bad, -entry.seen))
        return [entry.contact for entry in entries]

    def refresh_targets(self, now: float, rng: Random) -> list[bytes]:
        """
        Return a random id in each bucket unchanged for L{FRESH} seconds, to be looked
        up (BEP5), and mark these buckets as changed.
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
        Return a table with the same nodes for another C{own_id} (BEP42: our external
        address became known).
        """
        table = RoutingTable(own_id, now, closed=self.closed)
        for entry in sorted(self._by_place.values(), key=lambda entry: -entry.seen):
            if not entry.bad:
                table.responded(entry.contact, entry.seen)
        return table
