"""
Answers queries (BEP5, 32, 42, 44, 51).

Rules (docs/protocol/dht.md section 3):
  - C{ip} is in every reply, and C{nodes} accompanies every value.
  - A query whose sender can't exist, at a multicast or reserved address or port 0, is
    not answered.
  - Our own item is returned instead of a stored one (docs/protocol/sealed.md section 4).
  - A put is checked in order of cost: types and sizes, token, C{cas} and C{seq},
    signature. A put that repeats the stored item is not verified again.
  - An unknown method with a C{target} or C{info_hash} is answered like C{find_node},
    any other with error 204.
  - The upload is limited, above all to addresses that may be forged. A valid token
    proves an address.

Responses are assembled directly in bencoded form, with sorted keys: building and
encoding a dictionary would take longer than everything else (docs/protocol/dht.md
section 6).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random, SystemRandom
from socket import inet_aton
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from dtt.dht.routing.ids import ID_SIZE
from dtt.dht.server.resources import Resources
from dtt.dht.server.tokens import TOKEN_SIZE, Tokens
from dtt.krpc.bencode import Encoded, encode
from dtt.krpc.compact import ADDRESS6_SIZE, ADDRESS_SIZE, encode_address
from dtt.krpc.items import (
    MAX_SALT_SIZE,
    MAX_SEQ,
    MAX_VALUE_SIZE,
    PUBLIC_KEY_SIZE,
    SIGNATURE_SIZE,
    MutableItem,
    immutable_target,
    mutable_target,
)
from dtt.krpc.messages import (
    INVALID_SIGNATURE,
    METHOD_UNKNOWN,
    PROTOCOL_ERROR,
    SALT_TOO_BIG,
    SERVER_ERROR,
    VALUE_TOO_BIG,
    Query,
    encode_answer,
    encode_error,
)
from dtt.net.networks import Scope, packed_network, packed_scope

#: The most peers in a response to C{get_peers}: 400 bytes of IPv4 peers, 1000 of IPv6.
#: Guess: libtorrent returns up to 100.
MAX_PEERS_ANSWERED: Final = 50

#: The most info hashes in a response to C{sample_infohashes} (libtorrent's number), and
#: the seconds until the sample changes (BEP51, "interval": up to 21600). Guess.
MAX_SAMPLES: Final = 20
SAMPLE_INTERVAL: Final = 300

#: The most items, and the most peers, removed by one call of L{Responder.expire}: it
#: takes less than a millisecond. Guess.
EXPIRE_AT_ONCE: Final = 512

# The first bytes of IPv4 addresses that need no further check.
_USUAL: Final = frozenset(range(1, 224))

_TEXTS: Final = {
    301: "CAS mismatch",
    302: "sequence number too low",
}


class _Refusal(Exception):
    """
    Answer the query with an error.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


def _address(host: str, port: int) -> bytes:
    # Raises ValueError if no sender can have this address.
    if ":" in host:
        address = encode_address(host, port)
    else:
        # Every reply contains an address; inet_aton takes an eighth of the time.
        address = inet_aton(host) + port.to_bytes(2, "big")
        if port and address[0] in _USUAL:
            return address
    if not port or packed_scope(address[:-2]) is Scope.NEVER:
        raise ValueError("no such sender")
    return address


def _string(arguments: dict[bytes, Any], name: bytes, size: int) -> bytes:
    value = arguments.get(name)
    if type(value) is not bytes or len(value) != size:
        raise _Refusal(PROTOCOL_ERROR, f"missing or invalid {name.decode('ascii')}")
    return value


def _integer(arguments: dict[bytes, Any], name: bytes, low: int, high: int) -> int:
    value = arguments.get(name)
    if type(value) is not int or not low <= value <= high:
        raise _Refusal(PROTOCOL_ERROR, f"missing or invalid {name.decode('ascii')}")
    return value


class Responder:
    """
    Answers the queries of other nodes.

    L{answer} is the callback for L{KRPCProtocol<dtt.krpc.protocol.KRPCProtocol>}. Each
    method has a handler that returns the entries of C{r} after C{id}, bencoded.

    @ivar resources: the stores and upload limits.
    @ivar items: the BEP44 items stored.
    @ivar peers: the BEP5 peers announced.
    @ivar limits: the upload limits.
    @ivar counters: C{stored}, C{refreshed}, C{verified}, C{announced}, C{limited},
        C{faults} (unexpected exceptions, that is, bugs) and C{errors_CODE}.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        node_id: bytes,
        nearest: Callable[[bytes], bytes],
        *,
        nearest6: Callable[[bytes], bytes] | None = None,
        rng: Random | None = None,
        resources: Resources | None = None,
    ) -> None:
        """
        @param reactor: the clock.
        @param node_id: our 20-byte id.
        @param nearest: returns the compact info of up to 8 IPv4 nodes for a target.
        @param nearest6: the same for IPv6 nodes; C{None}: no IPv6.
        @param rng: the source of tokens, which must be unpredictable; the system's by
            default.
        @param resources: the stores and upload limits; by default its own.
        """
        self._reactor = reactor
        self._node_id = node_id
        self._nearest = nearest
        self._nearest6 = nearest6
        self._rng = SystemRandom() if rng is None else rng
        self.resources = Resources.create(node_id) if resources is None else resources
        self.limits = self.resources.limits
        self.items = self.resources.items
        self.peers = self.resources.peers
        self.counters: Counter[str] = Counter()
        self._tokens = Tokens(self._rng, reactor.seconds())
        self._sample = b""
        self._sample_total = 0
        self._sample_until = reactor.seconds()
        self._handlers: dict[bytes, Callable[[dict[bytes, Any], bytes, int, float], bytes]] = {
            b"ping": self._ping,
            b"find_node": self._find_node,
            b"get_peers": self._get_peers,
            b"announce_peer": self._announce_peer,
            b"get": self._get,
            b"put": self._put,
            b"sample_infohashes": self._sample_infohashes,
        }

    @property
    def node_id(self) -> bytes:
        """
        Our 20-byte id; may be changed.
        """
        return self._node_id

    @node_id.setter
    def node_id(self, node_id: bytes) -> None:
        self._node_id = self.items.node_id = self.peers.node_id = node_id

    def answer(self, query: Query, host: str, port: int) -> bytes | None:
        """
        Return the reply to a query, or C{None} to send none.

        @param host: the querier's IP address.
        @param port: the querier's port.
        """
        now = self._reactor.seconds()
        try:
            address = _address(host, port)
        except (OSError, ValueError, OverflowError):
            return None
        ip = address[:-2]
        limits = self.limits
        limited = not limits.closed
        # A put or an announcement may prove its address by the token.
        if limited and not limits.allows(ip, now) and query.method not in (b"put", b"announce_peer"):
            self.counters["limited"] += 1
            return None
        try:
            entries = self._entries(query, ip, port, now)
            reply = encode_answer(query.transaction, self._node_id, entries, address)
        except _Refusal as refusal:
            reply = self._error(query, refusal.code, refusal.text, address)
        except Exception:
            self.counters["faults"] += 1
            if self.counters["faults"] == 1:
                self._log.failure(
                    "Unexpected error while answering a query (a bug in dtt); more will only be counted."
                )
            reply = self._error(query, SERVER_ERROR, "server error", address)
        if limited:
            if not limits.allows(ip, now):
                self.counters["limited"] += 1
                return None
            limits.charge(ip, len(reply), now)
        return reply

    def expire(self, now: float) -> None:
        """
        Free the memory of expired entries; to be called periodically.
        """
        self.items.expire(now, EXPIRE_AT_ONCE)
        self.peers.expire(now, EXPIRE_AT_ONCE)

    def _error(self, query: Query, code: int, text: str, address: bytes) -> bytes:
        self.counters[f"errors_{code}"] += 1
        return encode_error(query.transaction, code, text, address)

    def _entries(self, query: Query, ip: bytes, port: int, now: float) -> bytes:
        if not query.node_id:
            raise _Refusal(PROTOCOL_ERROR, "missing or invalid id")
        if not query.method:
            raise _Refusal(PROTOCOL_ERROR, "missing or invalid method")
        arguments = query.arguments
        handler = self._handlers.get(query.method)
        if handler is not None:
            return handler(arguments, ip, port, now)
        for name in (b"target", b"info_hash"):
            target = arguments.get(name)
            if type(target) is bytes and len(target) == ID_SIZE:
                return self._nodes(target, arguments, ip)
        raise _Refusal(METHOD_UNKNOWN, "method unknown")

    def _nodes(self, target: bytes, arguments: dict[bytes, Any], ip: bytes) -> bytes:
        # BEP32: without "want", the nodes of the query's own family.
        want = arguments.get(b"want")
        if want is None and len(ip) == 4:
            nodes = self._nearest(target)
            return b"5:nodes%d:%b" % (len(nodes), nodes)
        four = six = False
        if type(want) is list:
            four, six = b"n4" in want, b"n6" in want
        if not four and not six:
            four = len(ip) == 4
            six = not four
        entries = b""
        if four:
            nodes = self._nearest(target)
            entries = b"5:nodes%d:%b" % (len(nodes), nodes)
        if six and self._nearest6 is not None:
            nodes = self._nearest6(target)
            entries += b"6:nodes6%d:%b" % (len(nodes), nodes)
        return entries

    def _ping(self, arguments: dict[bytes, Any], ip: bytes, port: int, now: float) -> bytes:
        return b""

    def _find_node(self, arguments: dict[bytes, Any], ip: bytes, port: int, now: float) -> bytes:
        return self._nodes(_string(arguments, b"target", ID_SIZE), arguments, ip)

    def _get_peers(self, arguments: dict[bytes, Any], ip: bytes, port: int, now: float) -> bytes:
        info_hash = _string(arguments, b"info_hash", ID_SIZE)
        nodes = self._nodes(info_hash, arguments, ip)
        token = self._tokens.token(ip, info_hash, now)
        size = ADDRESS_SIZE if len(ip) == 4 else ADDRESS6_SIZE
        peers = self.peers.peers(info_hash, size, MAX_PEERS_ANSWERED, self._rng, now)
        values = b"6:values" + encode(peers) if peers else b""
        return b"%b5:token%d:%b%b" % (nodes, TOKEN_SIZE, token, values)

    def _announce_peer(self, arguments: dict[bytes, Any], ip: bytes, port: int, now: float) -> bytes:
        info_hash = _string(arguments, b"info_hash", ID_SIZE)
        implied = arguments.get(b"implied_port")
        if type(implied) is not int or implied == 0:
            port = _integer(arguments, b"port", 1, 0xFFFF)
        self._check_token(arguments, ip, info_hash, now)
        self.peers.announce(info_hash, ip + port.to_bytes(2, "big"), packed_network(ip), now)
        self.counters["announced"] += 1
        return b""

    def _sample_infohashes(self, arguments: dict[bytes, Any], ip: bytes, port: int, now: float) -> bytes:
        nodes = self._nodes(_string(arguments, b"target", ID_SIZE), arguments, ip)
        if now >= self._sample_until or not self._sample:
            hashes, self._sample_total = self.peers.sample(MAX_SAMPLES, now)
            self._sample = b"".join(hashes)
            self._sample_until = now + SAMPLE_INTERVAL
        return b"8:intervali%de%b3:numi%de7:samples%d:%b" % (
            SAMPLE_INTERVAL,
            nodes,
            self._sample_total,
            len(self._sample),
            self._sample,
        )

    def _get(self, arguments: dict[bytes, Any], ip: bytes, port: int, now: float) -> bytes:
        target = _string(arguments, b"target", ID_SIZE)
        nodes = self._nodes(target, arguments, ip)
        token = self._tokens.token(ip, target, now)
        own = self.resources.own
        item: MutableItem | bytes | None = own.get(target) if target in own.targets else None
        if item is None:
            item = self.items.get(target, now)
        if item is None:
            return b"%b5:token%d:%b" % (nodes, TOKEN_SIZE, token)
        if not isinstance(item, MutableItem):
            return b"%b5:token%d:%b1:v%b" % (nodes, TOKEN_SIZE, token, item)
        known = arguments.get(b"seq")
        if type(known) is int and known >= item.seq:
            return b"%b3:seqi%de5:token%d:%b" % (nodes, item.seq, TOKEN_SIZE, token)
        return b"1:k32:%b%b3:seqi%de3:sig64:%b5:token%d:%b1:v%b" % (
            item.public_key,
            nodes,
            item.seq,
            item.signature,
            TOKEN_SIZE,
            token,
            item.encoded,
        )

    def _put(self, arguments: dict[bytes, Any], ip: bytes, port: int, now: float) -> bytes:
        if b"v" not in arguments:
            raise _Refusal(PROTOCOL_ERROR, "missing v")
        encoded = Encoded(encode(arguments[b"v"]))
        if len(encoded) > MAX_VALUE_SIZE:
            raise _Refusal(VALUE_TOO_BIG, "value too big")
        if b"k" in arguments or b"sig" in arguments:
            self._put_mutable(arguments, encoded, ip, now)
        else:
            target = immutable_target(encoded)
            self._check_token(arguments, ip, target, now)
            if self.items.get(target, now) is None:
                self._store(target, encoded, ip, now)
            else:
                # The same item, or a mutable item with this target, which stays.
                self._refresh(target, now)
        return b""

    def _put_mutable(self, arguments: dict[bytes, Any], encoded: Encoded, ip: bytes, now: float) -> None:
        salt = arguments.get(b"salt", b"")
        if type(salt) is not bytes:
            raise _Refusal(PROTOCOL_ERROR, "invalid salt")
        if len(salt) > MAX_SALT_SIZE:
            raise _Refusal(SALT_TOO_BIG, "salt too big")
        public_key = _string(arguments, b"k", PUBLIC_KEY_SIZE)
        signature = _string(arguments, b"sig", SIGNATURE_SIZE)
        seq = _integer(arguments, b"seq", 0, MAX_SEQ)
        cas = _integer(arguments, b"cas", 0, MAX_SEQ) if b"cas" in arguments else None
        target = mutable_target(public_key, salt)
        self._check_token(arguments, ip, target, now)
        item = MutableItem(public_key, salt, seq, encoded, signature)
        stored = self.items.get(target, now)
        if stored is not None:
            conflict = self.items.conflict(stored, item, cas)
            if conflict is not None:
                raise _Refusal(conflict, _TEXTS[conflict])
            if stored == item:
                self._refresh(target, now)
                return
        self.counters["verified"] += 1
        if not item.is_genuine():
            raise _Refusal(INVALID_SIGNATURE, "invalid signature")
        self._store(target, item, ip, now)

    def _store(self, target: bytes, item: MutableItem | bytes, ip: bytes, now: float) -> None:
        self.counters["stored"] += 1
        self.items.put(target, item, packed_network(ip), now)

    def _refresh(self, target: bytes, now: float) -> None:
        self.counters["refreshed"] += 1
        self.items.refresh(target, now)

    def _check_token(self, arguments: dict[bytes, Any], ip: bytes, target: bytes, now: float) -> None:
        token = arguments.get(b"token")
        if type(token) is not bytes or not self._tokens.is_valid(token, ip, target, now):
            raise _Refusal(PROTOCOL_ERROR, "invalid token")
        self.limits.prove(ip, now)
