"""
Attackers on the discovery of members.

Outsiders know the name of the topic, and so the public slots; an insider knows its secret,
too. What an attacker stores, it has stored before anybody else could: directly, without
datagrams.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Final, Literal

from dtt.identity import PeerKey
from dtt.krpc.compact import encode_address
from dtt.krpc.items import MAX_SEQ, MutableItem, sign_item
from dtt.records.record import ENTROPY_BYTES, GossipContent, Record, encrypt
from dtt.records.sealed import LANES, PERIOD_MINUTES, HiddenItem, period_of, sealed_slot
from dtt.records.topic import Slot, unix_minute
from dtt.testing.storage.dht import NOTICED
from dtt.testing.storage.nodes import Asked, StorageNode
from dtt.testing.vast.answers import encode_reply
from dtt.testing.vast.places import FIRST_BYTES, valid_address
from dtt.wire.addresses import STREAMS, PeerAddress

if TYPE_CHECKING:
    from dtt.testing.simulate.world import World

#: Seconds before a minute at which attackers store for it.
AHEAD: Final = 30.0

#: The size of a record without addresses, and of junk (docs/protocol/records.md section 3).
RECORD_SIZE: Final = 604

#: The bits of a Sybil's id that are those of the slot: enough to be nearer than all other nodes.
_SYBIL_BITS: Final = 48

Kind = Literal["silent", "lying"]


def slot_item(slot: Slot, value: bytes) -> MutableItem:
    """
    Sign a value for a slot, as everyone who can derive its key can.

    @param value: at most 996 bytes.
    """
    return sign_item(slot.signing_seed, slot.salt, MAX_SEQ, value)


class _Attacker:
    """
    Prepares every slot L{AHEAD} seconds before its minute, beginning with those of the
    last, the current and the next minute.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = Random(world.rng.random())
        self._prepared: set[int] = set()
        minute = unix_minute(world.clock.seconds())
        self._catch_up(minute - 1, minute, minute + 1)
        world.every(1.0, self._look)

    def prepare(self, slot: Slot) -> None:
        """
        Prepare a slot.
        """
        raise NotImplementedError

    def _look(self) -> None:
        self._catch_up(unix_minute(self.world.clock.seconds() + AHEAD))

    def _catch_up(self, *minutes: int) -> None:
        for minute in minutes:
            if minute not in self._prepared:
                self._prepared.add(minute)
                self.prepare(self.world.keys.slot(minute))

    def storing(self, target: bytes, count: int) -> list[StorageNode]:
        """
        Return the nearest nodes that store items.
        """

        def stores(node: StorageNode) -> bool:
            return not node.silent and node.manner.stores

        return self.world.dht.nearest(target, count, stores)


class Squatter(_Attacker):
    """
    An outsider that fills public slots with junk.
    """

    def __init__(self, world: World, share: float, count: int = 64) -> None:
        """
        @param share: the share of the nearest nodes that it fills, 0..1.
        @param count: how many nearest nodes, of those that store items.
        """
        self._share, self._count = share, count
        super().__init__(world)

    def prepare(self, slot: Slot) -> None:
        """
        Fill a slot.
        """
        junk = slot_item(slot, self.rng.randbytes(RECORD_SIZE))
        for node in self.storing(slot.target, self._count):
            if self.rng.random() < self._share:
                self.world.dht.store(node, junk)


class Insider(_Attacker):
    """
    A member that publishes records of members that do not exist, whose addresses are in a
    victim's network.

    @ivar victims: the addresses of the victim.
    """

    def __init__(self, world: World, fakes: int, places: int = 32) -> None:
        """
        @param fakes: fake members a minute.
        @param places: the nearest nodes that get a record each.
        """
        self._fakes, self._places = fakes, places
        network = world.dht.factory.host().rpartition(".")[0]
        self.victims = tuple(f"{network}.{number}" for number in range(1, 255))
        super().__init__(world)

    def content(self) -> bytes:
        """
        Return the content of such a record.
        """
        rng = self.rng
        address = PeerAddress(STREAMS, rng.choice(self.victims), rng.randrange(1024, 65536))
        others = tuple(PeerKey(rng.randbytes(32)).peer_id for _ in range(5))
        return GossipContent(others, (), (address,)).encode()

    def record(self, slot: Slot) -> bytes:
        """
        Return the encrypted record of a member that does not exist.
        """
        rng = self.rng
        record = Record.sign(PeerKey(rng.randbytes(32)), slot, self.content())
        return encrypt(record, self.world.keys.encryption_key(slot).public, rng.randbytes(ENTROPY_BYTES))

    def prepare(self, slot: Slot) -> None:
        """
        Fill a slot with fake records.
        """
        items = [slot_item(slot, self.record(slot)) for _ in range(self._fakes)]
        for index, node in enumerate(self.storing(slot.target, self._places)):
            self.world.dht.store(node, items[index % len(items)])


class SealedInsider(Insider):
    """
    An insider that fills the sealed slots, too, ahead and in all lanes.
    """

    def __init__(self, world: World, fakes: int, places: int = 32) -> None:
        """
        @param fakes: fake members a minute in the public slot, and a period in the sealed
            ones.
        @param places: the nearest nodes that get a record each, in each slot and lane.
        """
        self._periods: set[int] = set()
        super().__init__(world, fakes, places)

    def prepare(self, slot: Slot) -> None:
        """
        Fill a public slot, and the sealed ones of its period and the next.
        """
        super().prepare(slot)
        for period in (period_of(slot.minute), period_of(slot.minute) + 1):
            if period not in self._periods:
                self._periods.add(period)
                for lane in range(LANES):
                    self._fill(sealed_slot(self.world.keys, period, lane), period * PERIOD_MINUTES)

    def _fill(self, item: HiddenItem, minute: int) -> None:
        records = [
            item.seal(
                Record.sign_at(PeerKey(self.rng.randbytes(32)), item.topic_id, minute, self.content()),
                self.rng.randbytes(ENTROPY_BYTES),
            )
            for _ in range(self._fakes)
        ]
        signed = [sign_item(item.signing_seed, item.salt, MAX_SEQ, record) for record in records]
        for index, node in enumerate(self.storing(item.target, self._places)):
            self.world.dht.store(node, signed[index % len(signed)])


class Replayer(_Attacker):
    """
    An outsider that stores the values of earlier slots in all later ones.
    """

    def __init__(self, world: World, values: Sequence[bytes], count: int = 64) -> None:
        """
        @param values: what was stored in earlier slots.
        @param count: how many nearest nodes get one.
        """
        self._values, self._count = values, count
        super().__init__(world)

    def prepare(self, slot: Slot) -> None:
        """
        Fill a slot with old records.
        """
        items = [slot_item(slot, value) for value in self._values]
        for index, node in enumerate(self.storing(slot.target, self._count)):
            if items and index % 2:
                self.world.dht.store(node, items[index // 2 % len(items)])


class Sybils(_Attacker):
    """
    Nodes of one attacker with ids next to each public slot.

    Silent ones answer, accept puts and store nothing. Lying ones have junk as well, and
    name nodes that do not exist.
    """

    def __init__(
        self, world: World, count: int = 40, networks: int = 40, kind: Kind = "silent", secure: bool = False
    ) -> None:
        """
        @param count: how many for each slot.
        @param networks: the number of /24s that they are in.
        @param kind: what they do.
        @param secure: whether their ids are valid by BEP42.
        """
        self._count, self._networks, self._kind, self._secure = count, networks, kind, secure
        self._slots: dict[int, tuple[list[StorageNode], MutableItem]] = {}
        super().__init__(world)

    def prepare(self, slot: Slot) -> None:
        """
        Place nodes next to a slot, and remove those of slots that are no longer read.
        """
        dht, rng = self.world.dht, self.rng
        junk = slot_item(slot, rng.randbytes(RECORD_SIZE))
        nodes: list[StorageNode] = []
        self._slots[slot.minute] = nodes, junk

        def behave(asked: Asked) -> bytes:
            return self._answer(asked, slot.target, nodes, junk)

        for host, node_id in self._places(slot.target):
            born = self.world.clock.seconds() - NOTICED
            node = dht.factory.node(node_id, host, "libtorrent", born=born)
            node.behaviour = behave
            nodes.append(node)
            dht.add(node)
        for minute in [each for each in self._slots if each < slot.minute - 3]:
            for node in self._slots.pop(minute)[0]:
                dht.remove(node, self.world.clock.seconds())

    def _places(self, target: bytes) -> list[tuple[str, bytes]]:
        rng = self.rng
        number = int.from_bytes(target)
        found = []
        networks: list[tuple[str, int]] = []
        while len(networks) < self._networks:
            if self._secure:
                host, last = valid_address(number >> 139, rng.getrandbits(32))
            else:
                host, last = self.world.dht.factory.host(), -1
            networks.append((host, last))
        for index in range(self._count):
            host, last = networks[index % self._networks]
            node_id = number >> 160 - _SYBIL_BITS << 160 - _SYBIL_BITS | rng.getrandbits(160 - _SYBIL_BITS)
            if last >= 0:
                node_id = node_id & ~7 | last
            else:
                host = f"{host.rpartition('.')[0]}.{1 + index}"
            found.append((host, node_id.to_bytes(20)))
        return found

    def _answer(self, asked: Asked, target: bytes, nodes: list[StorageNode], junk: MutableItem) -> bytes:
        query, node = asked.query, asked.node
        lying = self._kind == "lying"
        near = b"".join(each.place.compact for each in self.rng.sample(nodes, min(8, len(nodes))))
        if lying:
            near = near[: 26 * 2] + b"".join(self._invented(target) for _ in range(6))
        entries = b""
        if query.method in (b"get", b"get_peers", b"find_node"):
            entries = b"5:nodes%d:%b" % (len(near), near)
        if query.method in (b"get", b"get_peers"):
            if lying and query.arguments.get(b"target") == junk.target:
                entries = b"1:k32:%b%b3:seqi%de3:sig64:%b5:token4:evil1:v%b" % (
                    junk.public_key,
                    entries,
                    junk.seq,
                    junk.signature,
                    junk.encoded,
                )
            else:
                entries += b"5:token4:evil"
        return encode_reply(
            query, node.manner.version, asked.address, node_id=node.place.node_id, entries=entries
        )

    def _invented(self, target: bytes) -> bytes:
        """
        Return the compact info of a node next to the slot that does not exist.
        """
        return target[:6] + self.rng.randbytes(14) + encode_address(_any_host(self.rng), 6881)


class Liars(_Attacker):
    """
    Ordinary nodes, anywhere in the DHT, that name nodes which do not exist.
    """

    def __init__(self, world: World, share: float) -> None:
        """
        @param share: the share of nodes that lie.
        """
        super().__init__(world)
        for node in world.dht.nodes():
            if self.rng.random() < share:
                node.behaviour = self._answer

    def prepare(self, slot: Slot) -> None:
        """
        Do nothing: they lie about all targets.
        """

    def _answer(self, asked: Asked) -> bytes | None:
        query = asked.query
        target = query.arguments.get(b"target") or query.arguments.get(b"info_hash")
        if not isinstance(target, bytes) or len(target) != 20:
            return self.world.dht.honest(asked)
        near = b"".join(
            target[:6] + self.rng.randbytes(14) + encode_address(_any_host(self.rng), 6881) for _ in range(8)
        )
        entries = b"5:nodes%d:%b" % (len(near), near)
        if query.method in (b"get", b"get_peers"):
            entries += b"5:token4:liar"
        node = asked.node
        return encode_reply(
            query, node.manner.version, asked.address, node_id=node.place.node_id, entries=entries
        )


def _any_host(rng: Random) -> str:
    # Most likely there is nobody at this public address.
    return f"{rng.choice(FIRST_BYTES)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"
