"""
The replies of the nodes of a L{dtt.testing.vast.VastDHT}.

BEP5, BEP44 and BEP51, with the variations of the node's L{Manner}. For speed, replies are
formatted directly, keys in order.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dtt.krpc.bencode import encode
from dtt.krpc.items import MutableItem, immutable_target, mutable_target
from dtt.krpc.messages import METHOD_UNKNOWN, PROTOCOL_ERROR, VALUE_TOO_BIG, Query
from dtt.testing.vast.manners import Manner
from dtt.testing.vast.places import Place
from dtt.testing.vast.storage import MAX_PEERS, BoundedStore, Items, Refused

if TYPE_CHECKING:
    from random import Random

#: Seconds for which a token's secret is used; tokens of the previous secret are still accepted (BEP5).
ROTATION: Final = 300.0

#: The maximum number of peers in a reply. Guess: as in jech/dht.
PEERS_ANSWERED: Final = 50

#: The maximum number of info hashes in a reply, and seconds until a node offers others (libtorrent's
#: C{dht_max_infohashes_sample_count} and C{dht_sample_infohashes_interval}).
SAMPLES: Final = 20
SAMPLE_INTERVAL: Final = 21600

_TEXTS: Final = {
    PROTOCOL_ERROR: b"protocol error",
    METHOD_UNKNOWN: b"method unknown",
    VALUE_TOO_BIG: b"message (v field) too big",
}


class _Asked(NamedTuple):
    # One query: the node it asks, its arguments, the sender's compact address, and the time.
    place: Place
    manner: Manner
    arguments: dict[bytes, Any]
    address: bytes
    now: float

    def target(self, name: bytes) -> bytes:
        target = self.arguments.get(name)
        if type(target) is not bytes or len(target) != 20:
            raise Refused(PROTOCOL_ERROR)
        return target


class Answers:
    """
    Answers queries to all nodes, and stores their data.

    @ivar items: the BEP44 items.
    @ivar peers: the BEP5 peers: compact addresses by node and info hash.
    """

    def __init__(self, key: bytes, rng: Random, nodes: Callable[[Place, Manner, bytes], bytes]) -> None:
        """
        @param key: the key of the tokens.
        @param rng: chooses the peers to reply with if there are too many.
        @param nodes: returns the compact nodes that a node sends for a target.
        """
        self.items = Items()
        self.peers: BoundedStore[dict[bytes, None]] = BoundedStore()
        self._key = key
        self._rng = rng
        self._nodes = nodes
        self._handlers: dict[bytes, Callable[[_Asked], bytes]] = {
            b"ping": lambda asked: b"",
            b"find_node": lambda asked: self._near(asked, asked.target(b"target")),
            b"get_peers": self._get_peers,
            b"announce_peer": self._announce_peer,
            b"get": self._get,
            b"put": self._put,
            b"sample_infohashes": self._sample_infohashes,
        }

    def answer(self, place: Place, manner: Manner, query: Query, address: bytes, now: float) -> bytes | None:
        """
        The reply to a query; C{None} if the node sends none.

        @param place: the node.
        @param manner: how the node answers.
        @param address: the sender's compact address, 6 bytes.
        @param now: seconds.
        """
        if manner.strict and not _is_well_formed(query):
            return None
        client = address if manner.sends_address else b""
        try:
            entries = self._entries(_Asked(place, manner, query.arguments, address, now), query)
        except Refused as refusal:
            if not refusal.code:
                return None
            text = _TEXTS.get(refusal.code, b"refused")
            error = b"1:eli%de%d:%be" % (refusal.code, len(text), text)
            return encode_reply(query, manner.version, client, error=error)
        return encode_reply(query, manner.version, client, node_id=place.node_id, entries=entries)

    def _entries(self, asked: _Asked, query: Query) -> bytes:
        # The entries that follow the id in the reply.
        manner, method = asked.manner, query.method
        if not query.node_id:
            raise Refused(PROTOCOL_ERROR)
        handler = self._handlers.get(method)
        known = manner.stores if method in (b"get", b"put") else True
        known = manner.samples if method == b"sample_infohashes" else known
        if handler is not None and known:
            return handler(asked)
        if manner.guesses:
            for name in (b"target", b"info_hash"):
                target = query.arguments.get(name)
                if type(target) is bytes and len(target) == 20:
                    return self._near(asked, target)
        raise Refused(manner.unknown)

    def _near(self, asked: _Asked, target: bytes) -> bytes:
        nodes = self._nodes(asked.place, asked.manner, target)
        return b"5:nodes%d:%b" % (len(nodes), nodes)

    def _token(self, asked: _Asked, target: bytes, age: int = 0) -> bytes:
        epoch = int(asked.now // ROTATION) - age
        what = b"token%d %d %b%b" % (asked.place.number, epoch, asked.address[:4], target)
        return blake2b(what, digest_size=asked.manner.token_size, key=self._key).digest()

    def _token_entry(self, asked: _Asked, target: bytes) -> bytes:
        token = self._token(asked, target)
        return b"5:token%d:%b" % (len(token), token)

    def _check_token(self, asked: _Asked, target: bytes) -> None:
        if asked.arguments.get(b"token") not in (self._token(asked, target), self._token(asked, target, 1)):
            raise Refused(PROTOCOL_ERROR)

    def _get_peers(self, asked: _Asked) -> bytes:
        info_hash = asked.target(b"info_hash")
        token = self._token_entry(asked, info_hash)
        peers = list(self.peers.get(asked.place.number, info_hash) or ())
        if not peers:
            return self._near(asked, info_hash) + token
        if len(peers) > PEERS_ANSWERED:
            peers = self._rng.sample(peers, PEERS_ANSWERED)
        nodes = self._near(asked, info_hash) if asked.manner.nodes_beside_peers else b""
        return b"%b%b6:values%b" % (nodes, token, encode(peers))

    def _announce_peer(self, asked: _Asked) -> bytes:
        info_hash = asked.target(b"info_hash")
        self._check_token(asked, info_hash)
        port = asked.arguments.get(b"port")
        if asked.arguments.get(b"implied_port") == 1:
            port = int.from_bytes(asked.address[4:])
        if type(port) is not int or not 0 < port < 0x10000:
            raise Refused(PROTOCOL_ERROR)
        peers = self.peers.get(asked.place.number, info_hash) or {}
        peers[asked.address[:4] + port.to_bytes(2)] = None
        if len(peers) > MAX_PEERS:
            del peers[next(iter(peers))]
        self.peers.put(asked.place.number, info_hash, peers)
        return b""

    def _get(self, asked: _Asked) -> bytes:
        target = asked.target(b"target")
        token = self._token_entry(asked, target)
        seq = asked.arguments.get(b"seq")
        item = self.items.find(asked.place.number, target, any_kind=seq is None)
        if item is None:
            return self._near(asked, target) + token
        nodes = self._near(asked, target) if asked.manner.nodes_beside_value else b""
        if not isinstance(item, MutableItem):
            return b"%b%b1:v%b" % (nodes, token, item)
        if type(seq) is int and seq >= item.seq and not asked.manner.always_value:
            return b"%b3:seqi%de%b" % (nodes, item.seq, token)
        return b"1:k32:%b%b3:seqi%de3:sig64:%b%b1:v%b" % (
            item.public_key,
            nodes,
            item.seq,
            item.signature,
            token,
            item.encoded,
        )

    def _put(self, asked: _Asked) -> bytes:
        arguments = asked.arguments
        key, salt = arguments.get(b"k"), arguments.get(b"salt", b"")
        if type(key) is bytes and type(salt) is bytes:
            target = mutable_target(key, salt)
        else:
            target = immutable_target(encode(arguments.get(b"v", b"")))
        self._check_token(asked, target)
        self.items.put(asked.place.number, asked.manner, arguments)
        return b""

    def _sample_infohashes(self, asked: _Asked) -> bytes:
        hashes = self.peers.of(asked.place.number)
        samples = b"".join(hashes[:SAMPLES])
        return b"8:intervali%de%b3:numi%de7:samples%d:%b" % (
            SAMPLE_INTERVAL,
            self._near(asked, asked.target(b"target")),
            len(hashes),
            len(samples),
            samples,
        )


def _is_well_formed(query: Query) -> bool:
    sizes = len(query.transaction) == 4 and len(query.version) in (0, 4)
    return sizes and (query.method != b"put" or b"target" in query.arguments)


def encode_reply(
    query: Query,
    version: bytes,
    address: bytes,
    *,
    node_id: bytes = b"",
    entries: bytes = b"",
    error: bytes = b"",
) -> bytes:
    """
    Encode a reply.

    @param version: C{v}, 4 bytes; C{b""}: none.
    @param address: the compact address of the query's sender (BEP42); C{b""}: none.
    @param node_id: the node's id, 20 bytes; unused in an error.
    @param entries: the entries that follow C{id} in C{r}, bencoded.
    @param error: C{e} and its value, bencoded, which make the reply an error.
    """
    return b"d%b%b%b1:t%d:%b%b1:y1:%be" % (
        error,
        b"2:ip6:" + address if address else b"",
        b"" if error else b"1:rd2:id20:%b%be" % (node_id, entries),
        len(query.transaction),
        query.transaction,
        b"1:v4:" + version if version else b"",
        b"e" if error else b"r",
    )
