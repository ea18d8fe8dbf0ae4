"""
The operations of L{IDHT<dtt.interfaces.IDHT>}, which are the same for a node and for
its fake in L{dtt.testing.fake_dht}.

Rules: wrong arguments are refused by the call itself. An operation waits until there is a node to query, runs
on all usable address families concurrently, and merges the results.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed

from dtt.deferreds import gather_until
from dtt.dht.arguments import check_immutable, check_key, check_port, check_target, item_to_put
from dtt.dht.client.client import Client
from dtt.dht.client.lookup import ALPHA, SLOT_WIDTH, LookupOptions
from dtt.dht.client.puts import Put
from dtt.dht.client.reads import contacts_of, read_again
from dtt.dht.families import merge_puts, merge_reads, restrict_to_family
from dtt.dht.routing.buckets import K
from dtt.errors import LookupFailed
from dtt.interfaces import InfohashSample, IPlacement, MutableRead, NodeAnswer, PutResult
from dtt.krpc.compact import Family

T = TypeVar("T")


class QueriedSide(Protocol):
    """
    One address family, as an operation sees it.
    """

    @property
    def family(self) -> Family:
        """
        The family of all nodes that are queried.
        """

    @property
    def client(self) -> Client:
        """
        Sends the queries.
        """

    @property
    def ready(self) -> bool:
        """
        Whether a node has answered.
        """

    def before_read(self) -> None:
        """
        A mutable item is about to be read.
        """


class Operations:
    """
    The operations, on the sides that a subclass provides.
    """

    def __init__(self) -> None:
        # Ordered: those that began first are cancelled first.
        self._operations: dict[Deferred[Any], None] = {}

    @property
    def node_id(self) -> bytes:
        """
        Our 20-byte id.
        """
        raise NotImplementedError

    def when_ready(self) -> Deferred[int]:
        """
        Wait until a node can be queried; see
        L{IDHT.when_ready<dtt.interfaces.IDHT.when_ready>}.
        """
        raise NotImplementedError

    def when_usable(self) -> Deferred[None]:
        """
        Wait until operations can begin; see
        L{IDHT.when_usable<dtt.interfaces.IDHT.when_usable>}.
        """
        raise NotImplementedError

    def usable_sides(self) -> Sequence[QueriedSide]:
        """
        Return the sides that have nodes to query: at least one once L{when_usable} has fired.
        """
        raise NotImplementedError

    def side_of(self, host: str) -> QueriedSide | None:
        """
        Return the side whose socket can send to an address, even if no node has answered
        there; C{None} if there is none.

        @param host: an IP literal.
        """
        raise NotImplementedError

    def own_answer(self, public_key: bytes, salt: bytes) -> tuple[NodeAnswer, ...]:
        """
        Return what we store of a mutable item: one answer, or none.
        """
        return ()

    def cancel_operations(self) -> None:
        """
        Cancel all operations that are running.
        """
        for operation in list(self._operations):
            operation.cancel()

    def take_turn(self, kind: str) -> Deferred[None]:
        """
        Wait until an operation may start; L{end_turn} follows.

        @param kind: the kind of operation.
        """
        return succeed(None)

    def end_turn(self) -> None:
        """
        Note that an operation has ended.
        """

    def _run(self, operation: Callable[[], Coroutine[Any, Any, T]], kind: str = "") -> Deferred[T]:
        """
        @param kind: the kind of operation, which waits for its turn; C{""}: it sends only
            queries that need not wait for a packet budget, and is not delayed.
        """

        async def run() -> T:
            await self.when_usable()
            if not kind:
                return await operation()
            await self.take_turn(kind)
            try:
                return await operation()
            finally:
                self.end_turn()

        def over(result: T) -> T:
            self._operations.pop(running, None)
            return result

        running = Deferred.fromCoroutine(run())
        self._operations[running] = None
        return running.addBoth(over)

    def _on_each(
        self,
        operation: Callable[[QueriedSide], Coroutine[Any, Any, T]],
        enough: Callable[[T], bool] | None = None,
    ) -> Deferred[list[T]]:
        """
        Run an operation on all usable sides: a family without connectivity delays
        nothing.

        @return: fires with the results of the sides on which it could be carried out;
            fails with L{LookupFailed<dtt.errors.LookupFailed>} if there is none.
        """
        sides = self.usable_sides()
        running = [Deferred.fromCoroutine(operation(side)) for side in sides]
        # Once the other family has been queried, don't wait for one in which no node has answered.
        return gather_until(running, enough, lambda index: sides[index].ready, tolerated=LookupFailed)

    def get_mutable(
        self,
        public_key: bytes,
        salt: bytes = b"",
        on_answer: Callable[[NodeAnswer], None] | None = None,
        on_inner: Callable[[MutableRead], None] | None = None,
        *,
        known: MutableRead | None = None,
        alpha: int = ALPHA,
        width: int = SLOT_WIDTH,
    ) -> Deferred[MutableRead]:
        """
        Read a mutable item in all families.
        """
        check_key(public_key, salt)

        async def read_on(side: QueriedSide) -> MutableRead:
            side.before_read()
            contacts = (
                () if known is None else contacts_of(restrict_to_family(known, side.family), self.node_id)
            )
            options = LookupOptions(width=width, alpha=alpha, known=contacts, mainline=True)
            return await side.client.get_mutable(public_key, salt, on_answer, on_inner, options)

        async def get() -> MutableRead:
            own = self.own_answer(public_key, salt)
            for answer in own:
                self.usable_sides()[0].client.notify(on_answer, answer)
            read = merge_reads(await self._on_each(read_on))
            return evolve(read, answers=(*read.answers, *own))

        return self._run(get, "get_mutable")

    def refresh(
        self,
        read: MutableRead,
        on_answer: Callable[[NodeAnswer], None] | None = None,
        nearest: int | None = None,
    ) -> Deferred[MutableRead]:
        """
        Repeat a read without a lookup.
        """

        others = evolve(read, answers=tuple(a for a in read.answers if a.contact.node_id != self.node_id))

        async def again_on(side: QueriedSide) -> MutableRead:
            client = side.client
            return await read_again(
                restrict_to_family(others, side.family),
                client.ask,
                client.may_ask,
                partial(client.notify, on_answer),
                nearest,
            )

        async def again() -> MutableRead:
            again = merge_reads(await self._on_each(again_on))
            return evolve(again, answers=(*again.answers, *self.own_answer(read.public_key, read.salt)))

        return self._run(again)

    def put_mutable(
        self,
        signing_seed: bytes,
        salt: bytes,
        value: bytes,
        placement: IPlacement,
        read: MutableRead,
        seq: int = 2**63 - 1,
        *,
        read_back: bool = True,
    ) -> Deferred[PutResult]:
        """
        Put a mutable item in all families, according to a placement.
        """
        item = item_to_put(signing_seed, salt, seq, value, None, read)

        async def put_on(side: QueriedSide) -> PutResult:
            # Readers that know only one family must find the record too.
            mine = restrict_to_family(read, side.family)
            return await Put(side.client.ask, mine, item, value, placement, read_back).run()

        async def put() -> PutResult:
            return merge_puts(await self._on_each(put_on))

        return self._run(put, "put_mutable")

    def put_latest(
        self,
        signing_seed: bytes,
        value: bytes,
        seq: int,
        salt: bytes = b"",
        *,
        cas: int | None = None,
        read: MutableRead | None = None,
        copies: int = K,
    ) -> Deferred[PutResult]:
        """
        Put a mutable item on the nearest nodes of each family.
        """
        item = item_to_put(signing_seed, salt, seq, value, cas, read)

        async def put_on(side: QueriedSide) -> PutResult:
            known = None if read is None else restrict_to_family(read, side.family)
            return await side.client.put_latest(item, value, known, cas, copies)

        async def put() -> PutResult:
            return merge_puts(await self._on_each(put_on))

        return self._run(put, "put_latest")

    def ask_node(self, host: str, port: int, public_key: bytes, salt: bytes = b"") -> Deferred[NodeAnswer]:
        """
        Request a mutable item from one node, even if no node is known.

        @raise ValueError: an argument has a wrong length, or C{port} is not 1..65535.
        """
        check_key(public_key, salt)
        check_port(port)
        side = self.side_of(host)
        if side is None:
            return fail(LookupFailed(f"there is no socket for {host}"))
        asking = Deferred.fromCoroutine(side.client.get_from(host, port, public_key, salt))
        self._operations[asking] = None

        def over(result: T) -> T:
            self._operations.pop(asking, None)
            return result

        return asking.addBoth(over)

    def get_immutable(self, target: bytes) -> Deferred[bytes | None]:
        """
        Get an immutable item from the first family that has it.
        """
        check_target(target)

        async def get() -> bytes | None:
            found = await self._on_each(
                lambda side: side.client.get_immutable(target), lambda value: value is not None
            )
            return next((value for value in found if value is not None), None)

        return self._run(get, "get_immutable")

    def put_immutable(self, value: bytes) -> Deferred[PutResult]:
        """
        Put an immutable item in all families.

        @raise ValueError: the value is too long or not bencoded.
        """
        check_immutable(value)

        async def put() -> PutResult:
            return merge_puts(await self._on_each(lambda side: side.client.put_immutable(value)))

        return self._run(put, "put_immutable")

    def get_peers(
        self,
        info_hash: bytes,
        on_peer: Callable[[str, int], None] | None = None,
    ) -> Deferred[frozenset[tuple[str, int]]]:
        """
        Collect the peers of an info hash from all families.
        """
        check_target(info_hash)

        async def get() -> frozenset[tuple[str, int]]:
            peers = await self._on_each(lambda side: side.client.get_peers(info_hash, on_peer))
            return frozenset().union(*peers)

        return self._run(get, "get_peers")

    def announce_peer(self, info_hash: bytes, port: int) -> Deferred[PutResult]:
        """
        Announce a peer in all families.

        @raise ValueError: C{port} is not 0..65535.
        """
        check_target(info_hash)
        check_port(port, 0)  # 0: the source port

        async def announce() -> PutResult:
            return merge_puts(await self._on_each(lambda side: side.client.announce_peer(info_hash, port)))

        return self._run(announce, "announce_peer")

    def sample_infohashes(
        self,
        target: bytes,
        on_sample: Callable[[InfohashSample], None] | None = None,
    ) -> Deferred[tuple[InfohashSample, ...]]:
        """
        Sample info hashes in all families.
        """
        check_target(target)

        async def sample() -> tuple[InfohashSample, ...]:
            samples = await self._on_each(lambda side: side.client.sample_infohashes(target, on_sample))
            return tuple(sample for each in samples for sample in each)

        return self._run(sample, "sample_infohashes")
