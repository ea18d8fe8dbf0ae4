"""
A dtt node's reply to every query, valid or not, compared with libtorrent's reply to the
same bytes.

Both get their queries from one socket. Replies are compared by their L{shape}: the
fields, their sizes, and the code of an error. Differences are listed in L{DIFFERENCES}
and, with the reasons, in docs/explanation/dht-node.md; an unlisted difference, or a
listed one that does not exist, fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha1
from typing import Any

from nacl.bindings import crypto_sign_seed_keypair
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dtt.dht.node import DHTNode
from dtt.errors import DecodeError
from dtt.krpc.bencode import decode, encode
from dtt.krpc.items import sign
from tests.interop.support import LOOPBACK, NO_LIBTORRENT, Address

if NO_LIBTORRENT is None:
    from tests.interop.libtorrent_swarm import LibtorrentSwarm

#: Seconds of silence that count as no reply.
SILENCE = 0.25

ID = b"asker of many things"
HASH = sha1(b"a torrent").digest()
SEED = sha1(b"an owner").digest() + bytes(12)
KEY = crypto_sign_seed_keypair(SEED)[0]
TARGET = sha1(KEY + b"salt").digest()

NOTHING = "no reply"

OK = "ip 6, id 20"
FOUND = "ip 6, id 20, nodes"

#: Name -> dtt's answer, libtorrent's answer. In addition, libtorrent repeats the querier's port in
#: every C{r} as C{p}, which is omitted here.
DIFFERENCES = {
    "ping, empty t": (NOTHING, OK),
    "ping, no t": (NOTHING, OK),
    "ping, no id": ("error 203 ip 6", "error 203"),
    "ping, short id": ("error 203 ip 6", "error 203"),
    "ping, no a": ("error 203 ip 6", "error 203"),
    "no method": ("error 203 ip 6", "error 203"),
    "unknown": ("error 204 ip 6", "error 203 ip 6"),
    "announce_peer, port 0": ("error 203 ip 6", OK),
    # The third one is the announcement with port 0.
    "get_peers, values": (f"{FOUND}, token, values 2x6", f"{FOUND}, token, values 3x6"),
    "get_peers, scrape": (
        f"{FOUND}, token, values 2x6",
        "ip 6, BFpe 256, BFsd 256, id 20, nodes, token",
    ),
    "put, equal seq, other value": ("error 302 ip 6", OK),
    "put, no signature": ("error 203 ip 6", OK),
    "put, short signature": ("error 203 ip 6", OK),
    "put, no seq": ("error 203 ip 6", OK),
    "put, seq no number": ("error 203 ip 6", OK),
}


def shape(reply: bytes | None) -> str:
    """
    The fields of a reply and their sizes, in one line, without sizes that a node chooses:
    tokens, values, lists of nodes.
    """
    if reply is None:
        return NOTHING
    message: Any = decode(reply)
    fields = [f"ip {len(message[b'ip'])}"] if b"ip" in message else []
    if message[b"y"] == b"e":
        return " ".join([f"error {message[b'e'][0]}", *fields])
    for name, value in sorted(message[b"r"].items()):
        word = name.decode("ascii")
        if name in (b"nodes", b"nodes6"):
            word += "" if value and len(value) % (26 if name == b"nodes" else 38) == 0 else " none"
        elif name in (b"interval", b"num", b"seq", b"v"):
            word += f" {value}" if name in (b"seq", b"num") else ""
        elif name == b"values":
            word += f" {len(value)}x{len(value[0])}"
        elif name == b"p":
            continue
        elif name != b"token":
            word += f" {len(value)}" if isinstance(value, bytes) else f" {value}"
        fields.append(word)
    return ", ".join(fields)


def query(method: bytes, /, transaction: bytes = b"abcd", **arguments: Any) -> bytes:
    """
    A query from L{ID}.
    """
    values = {b"id": ID, **{name.encode(): value for name, value in arguments.items()}}
    return encode({b"a": values, b"q": method, b"t": transaction, b"y": b"q"})


def put(token: bytes, value: bytes, seq: int, **more: Any) -> bytes:
    """
    A C{put} for L{TARGET}, modified by C{more}.
    """
    salt = more.get("salt", b"salt")
    signature = sign(SEED, salt, seq, encode(value))
    arguments = {"k": KEY, "salt": salt, "seq": seq, "sig": signature, "token": token, "v": value, **more}
    return query(b"put", **arguments)


Steps = Iterator[tuple[str, Callable[[dict[bytes, bytes]], bytes]]]


def steps() -> Steps:
    """
    The name of each query, and the function that creates it from the tokens for each
    target.
    """

    def plain(name: str, data: bytes) -> tuple[str, Callable[[dict[bytes, bytes]], bytes]]:
        return name, lambda tokens: data

    immutable = sha1(b"5:value").digest()
    yield plain("ping", query(b"ping"))
    yield plain("ping, read-only", query(b"ping")[:-1].replace(b"1:q4:ping", b"1:q4:ping2:roi1e") + b"e")
    yield plain("ping, t of 1 byte", query(b"ping", transaction=b"a"))
    yield plain("ping, t of 20 bytes", query(b"ping", transaction=b"a" * 20))
    yield plain("ping, empty t", query(b"ping", transaction=b""))
    yield plain("ping, no t", query(b"ping").replace(b"1:t4:abcd", b""))
    yield plain("ping, no id", b"d1:ade1:q4:ping1:t4:abcd1:y1:qe")
    yield plain("ping, short id", b"d1:ad2:id3:abce1:q4:ping1:t4:abcd1:y1:qe")
    yield plain("ping, no a", b"d1:q4:ping1:t4:abcd1:y1:qe")
    yield plain("no method", query(b"ping").replace(b"1:q4:ping", b""))
    yield plain("no y", query(b"ping").replace(b"1:y1:q", b""))
    yield plain("find_node", query(b"find_node", target=HASH))
    yield plain("find_node, no target", query(b"find_node"))
    yield plain("find_node, short target", query(b"find_node", target=b"short"))
    yield plain("find_node, want n6", query(b"find_node", target=HASH, want=[b"n6"]))
    yield plain("find_node, want n4 n6", query(b"find_node", target=HASH, want=[b"n4", b"n6"]))
    yield plain("get_peers", query(b"get_peers", info_hash=HASH))
    yield plain("get_peers, no info_hash", query(b"get_peers"))
    yield "announce_peer", lambda t: query(b"announce_peer", info_hash=HASH, port=1234, token=t[HASH])
    yield (
        "announce_peer, implied_port",
        lambda t: query(b"announce_peer", implied_port=1, info_hash=HASH, port=1, token=t[HASH]),
    )
    yield "announce_peer, port 0", lambda t: query(b"announce_peer", info_hash=HASH, port=0, token=t[HASH])
    yield "announce_peer, no port", lambda t: query(b"announce_peer", info_hash=HASH, token=t[HASH])
    yield plain("announce_peer, bad token", query(b"announce_peer", info_hash=HASH, port=1, token=b"nope"))
    yield plain("announce_peer, no token", query(b"announce_peer", info_hash=HASH, port=1))
    yield "announce_peer, no info_hash", lambda t: query(b"announce_peer", port=1, token=t[HASH])
    yield plain("get_peers, values", query(b"get_peers", info_hash=HASH))
    yield plain("get_peers, scrape", query(b"get_peers", info_hash=HASH, scrape=1))
    yield plain("sample_infohashes", query(b"sample_infohashes", target=HASH))
    yield plain("sample_infohashes, no target", query(b"sample_infohashes"))
    yield plain("get", query(b"get", target=TARGET))
    yield plain("get, no target", query(b"get"))
    yield "put", lambda t: put(t[TARGET], b"value", 5)
    yield "put, the same again", lambda t: put(t[TARGET], b"value", 5)
    yield plain("get, stored", query(b"get", target=TARGET))
    yield plain("get, seq as stored", query(b"get", seq=5, target=TARGET))
    yield plain("get, lower seq", query(b"get", seq=4, target=TARGET))
    yield "put, higher seq", lambda t: put(t[TARGET], b"value 6", 6)
    yield "put, cas holds", lambda t: put(t[TARGET], b"value 7", 7, cas=6)
    yield "put, cas mismatch", lambda t: put(t[TARGET], b"value 8", 8, cas=3)
    yield "put, lower seq", lambda t: put(t[TARGET], b"value 2", 2)
    yield "put, equal seq, other value", lambda t: put(t[TARGET], b"other", 7)
    yield plain("get, after these", query(b"get", target=TARGET))
    yield "put, bad signature", lambda t: put(t[TARGET], b"value 9", 9, sig=bytes(64))
    yield "put, short signature", lambda t: put(t[TARGET], b"value 9", 9, sig=b"short")
    yield "put, no signature", lambda t: query(b"put", k=KEY, salt=b"salt", seq=9, token=t[TARGET], v=b"9")
    yield "put, short key", lambda t: put(t[TARGET], b"value 9", 9, k=b"short")
    yield plain("put, bad token", put(b"nope", b"value 9", 9))
    yield plain("put, bad token and signature", put(b"nope", b"value 9", 9, sig=bytes(64)))
    yield "put, no v", lambda t: query(b"put", token=t[TARGET])
    yield "put, no seq", lambda t: put(t[TARGET], b"value", 1).replace(b"3:seqi1e", b"")
    yield "put, negative seq", lambda t: put(t[TARGET], b"value", -1)
    yield "put, seq no number", lambda t: put(t[TARGET], b"value", 9).replace(b"3:seqi9e", b"3:seq1:9")
    yield "put, v of 1000 bytes", lambda t: put(t[TARGET], b"v" * 996, 10)
    yield "put, v of 1001 bytes", lambda t: put(t[TARGET], b"v" * 997, 11)
    yield "put, salt of 65 bytes", lambda t: put(t[TARGET], b"value", 11, salt=b"s" * 65)
    yield plain("get immutable", query(b"get", target=immutable))
    yield "put immutable", lambda t: query(b"put", token=t[immutable], v=b"value")
    yield "put immutable, a list", lambda t: query(b"put", token=t[immutable], v=[b"value"])
    yield plain("put immutable, no token", query(b"put", v=b"value"))
    yield plain("get immutable, stored", query(b"get", target=immutable))
    yield plain("unknown, target", query(b"vote", target=HASH))
    yield plain("unknown, info_hash", query(b"vote", info_hash=HASH))
    yield plain("unknown", query(b"vote"))
    yield plain("a response to nothing", b"d1:rd2:id20:" + ID + b"e1:t4:abcd1:y1:re")
    yield plain("an error to nothing", b"d1:eli201e4:oopse1:t4:abcd1:y1:ee")
    yield plain("no dictionary", b"l4:pinge")
    yield plain("an end is missing", query(b"ping")[:-1])
    yield plain("garbage", b"\x00\xffnonsense")
    yield plain("empty", b"")
    yield plain("trailing bytes", query(b"ping") + b"x")
    yield plain("keys unsorted", b"d1:y1:q1:t4:abcd1:q4:ping1:ad2:id20:" + ID + b"ee")


class Asker(DatagramProtocol):
    """
    Sends bytes and waits for the reply; it does not answer queries.
    """

    noisy = False

    def __init__(self) -> None:
        self._waiting: tuple[Address, Deferred[bytes]] | None = None

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """
        Handle a datagram, which may be the reply.
        """
        if self._waiting is None or self._waiting[0] != addr:
            return
        message: Any = decode(datagram)
        if message[b"y"] != b"q":
            waiting, self._waiting = self._waiting[1], None
            waiting.callback(datagram)

    async def ask(self, reactor: Any, address: Address, data: bytes) -> bytes | None:
        """
        The reply; C{None} if there is none.
        """
        reply: Deferred[bytes] = Deferred()
        self._waiting = (address, reply)
        assert self.transport is not None
        self.transport.write(data, address)
        try:
            return await reply.addTimeout(SILENCE, reactor)
        except TimeoutError:
            self._waiting = None
            return None


class ReplyTests(TestCase):
    """
    The same bytes sent to both.
    """

    skip = NO_LIBTORRENT
    timeout = 180

    async def _ask_all(self, address: Address) -> dict[str, str]:
        """
        The shapes of all replies of a node.
        """
        asker = Asker()
        port = self.reactor.listenUDP(0, asker, interface=LOOPBACK)
        self.addCleanup(port.stopListening)
        tokens: dict[bytes, bytes] = {}
        shapes = {}
        for name, make in steps():
            data = make(tokens)
            reply = await asker.ask(self.reactor, address, data)
            shapes[name] = shape(reply)
            if reply is None:
                continue
            message: Any = decode(reply)
            try:
                asked: Any = decode(data)
            except DecodeError:
                continue
            self.assertEqual(message.get(b"t"), asked.get(b"t", message.get(b"t")), name)
            if b"token" in message.get(b"r", {}):
                arguments = asked[b"a"]
                tokens[arguments.get(b"target", arguments.get(b"info_hash"))] = message[b"r"][b"token"]
        return shapes

    async def _compare(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        swarm = LibtorrentSwarm(9)
        self.addCleanup(swarm.stop)
        node = DHTNode(reactor, interface=LOOPBACK, closed=True, bootstrap=swarm.addresses)
        node.startService()
        self.addCleanup(node.stopService)
        await swarm.settled(reactor)
        await node.when_ready()
        await deferLater(reactor, 0.5)
        theirs = await self._ask_all(swarm.addresses[0])
        ours = await self._ask_all((LOOPBACK, node.port))
        found = {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}
        self.maxDiff = None
        self.assertEqual(ours["ping"], OK)
        self.assertEqual(found, DIFFERENCES)

    def test_same(self) -> Deferred[None]:
        """
        The replies have the same shape, except for L{DIFFERENCES}.
        """
        return Deferred.fromCoroutine(self._compare())
