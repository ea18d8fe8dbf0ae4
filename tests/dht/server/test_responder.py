"""
Tests for L{dtt.dht.server.responder}.
"""

from __future__ import annotations

from hashlib import sha1
from random import Random
from typing import Any
from unittest.mock import patch

from attrs import evolve
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.server.resources import Resources
from dtt.dht.server.responder import SAMPLE_INTERVAL, Responder
from dtt.dht.server.upload import AnswerLimits
from dtt.krpc.bencode import encode
from dtt.krpc.compact import encode_address
from dtt.krpc.items import MutableItem, sign, sign_item
from dtt.krpc.messages import Error, Query, Response, decode

_ME = b"m" * 20
_THEM = b"t" * 20
_HOST = "10.0.0.1"
_SEED = b"s" * 32


class ResponderTestCase(SynchronousTestCase):
    """
    A responder in a closed network.
    """

    def setUp(self) -> None:
        """
        Derive its nearest nodes from the target.
        """
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.responder = self.make()

    def make(self, limits: AnswerLimits | None = None) -> Responder:
        """
        Create a responder, by default without limits.
        """
        limits = AnswerLimits(closed=True) if limits is None else limits
        return Responder(
            self.clock,
            _ME,
            lambda target: (target + b"4nodes") * 8,
            nearest6=lambda target: (target + b"6" * 18) * 8,
            rng=Random(1),
            resources=evolve(Resources.create(_ME), limits=limits),
        )

    def reply(
        self,
        method: bytes,
        arguments: dict[bytes, Any],
        host: str = _HOST,
        port: int = 1000,
        node_id: bytes = _THEM,
    ) -> bytes | None:
        """
        Return the encoded reply to a query.
        """
        return self.responder.answer(Query(b"tx", method, node_id, arguments, False, b""), host, port)

    def ask(
        self, method: bytes, arguments: dict[bytes, Any], host: str = _HOST, port: int = 1000
    ) -> dict[bytes, Any]:
        """
        Return the values in the response to a query.
        """
        reply = self.reply(method, arguments, host, port)
        assert reply is not None
        message = decode(reply)
        assert isinstance(message, Response), message
        self.assertEqual((message.transaction, message.node_id), (b"tx", self.responder.node_id))
        self.assertEqual(message.ip, encode_address(host, port))
        return message.values

    def code(self, method: bytes, arguments: dict[bytes, Any], **options: Any) -> int:
        """
        Return the code of the error reply to a query.
        """
        reply = self.reply(method, arguments, **options)
        assert reply is not None
        message = decode(reply)
        assert isinstance(message, Error), message
        self.assertEqual(message.transaction, b"tx")
        self.assertEqual(self.responder.counters[f"errors_{message.code}"] > 0, True)
        return message.code

    def token(self, target: bytes, host: str = _HOST) -> bytes:
        """
        Return a token for a target.
        """
        token = self.ask(b"get", {b"target": target}, host)[b"token"]
        assert isinstance(token, bytes)
        return token

    def put_arguments(self, item: MutableItem, **changes: Any) -> dict[bytes, Any]:
        """
        Return the arguments of a put, with some changed.
        """
        return {
            **item.arguments(),
            b"v": b"value",
            b"token": self.token(item.target),
            **{name.encode(): value for name, value in changes.items()},
        }


class QueryTests(ResponderTestCase):
    """
    BEP5, 32, 42, 51.
    """

    def test_ping(self) -> None:
        """
        A response has our id and the querier's address, also of IPv6.
        """
        self.assertEqual(self.ask(b"ping", {}), {})
        self.assertEqual(self.ask(b"ping", {}, host="2001:db8::1"), {})
        self.responder.node_id = b"n" * 20
        self.assertEqual(self.ask(b"ping", {}), {})

    def test_find_node(self) -> None:
        """
        The response has the nearest nodes of the querier's family, or of those that it
        wants.
        """
        target = b"x" * 20
        four, six = (target + b"4nodes") * 8, (target + b"6" * 18) * 8
        for host, want, expected in (
            (_HOST, None, {b"nodes": four}),
            ("2001:db8::1", None, {b"nodes6": six}),
            (_HOST, [b"n6"], {b"nodes6": six}),
            ("2001:db8::1", [b"n4"], {b"nodes": four}),
            (_HOST, [b"n4", b"n6"], {b"nodes": four, b"nodes6": six}),
            (_HOST, [], {b"nodes": four}),
            (_HOST, [b"n8", 1, []], {b"nodes": four}),
            (_HOST, b"n6", {b"nodes": four}),
        ):
            arguments = {b"target": target} if want is None else {b"target": target, b"want": want}
            self.assertEqual(self.ask(b"find_node", arguments, host), expected)

    def test_peers(self) -> None:
        """
        An announced peer is returned, with nodes and a token; its port is the one
        named, or its source port if implied.
        """
        info_hash = b"i" * 20
        empty = self.ask(b"get_peers", {b"info_hash": info_hash})
        self.assertEqual(set(empty), {b"nodes", b"token"})
        announcement = {b"info_hash": info_hash, b"token": empty[b"token"], b"port": 6881}
        self.assertEqual(self.ask(b"announce_peer", announcement), {})
        del announcement[b"port"]
        self.assertEqual(self.ask(b"announce_peer", {**announcement, b"implied_port": 1}, port=7), {})
        values = self.ask(b"get_peers", {b"info_hash": info_hash}, host="10.9.9.9")
        self.assertEqual(sorted(values[b"values"]), [encode_address(_HOST, 7), encode_address(_HOST, 6881)])
        self.assertEqual(len(values[b"nodes"]), 208)
        self.assertNotIn(b"values", self.ask(b"get_peers", {b"info_hash": info_hash}, host="2001:db8::1"))

    def test_bad_announcements(self) -> None:
        """
        Without a valid token and port the reply is error 203, and nothing is stored.
        """
        info_hash = b"i" * 20
        good = {b"info_hash": info_hash, b"token": self.token(info_hash), b"port": 6881}
        for name, value in (
            (b"token", b"x" * 8),
            (b"token", 1),
            (b"token", self.token(b"j" * 20)),
            (b"token", self.token(info_hash, host="10.0.0.2")),
            (b"port", 0),
            (b"port", 65536),
            (b"port", b"80"),
            (b"info_hash", b"short"),
        ):
            self.assertEqual(self.code(b"announce_peer", {**good, name: value}), 203, (name, value))
        self.assertEqual(len(self.responder.peers), 0)

    def test_sample_infohashes(self) -> None:
        """
        The sample has up to 20 info hashes and their number, and stays the same until
        the interval has passed; an empty one is not cached.
        """
        values = self.ask(b"sample_infohashes", {b"target": b"x" * 20})
        self.assertEqual((values[b"num"], values[b"samples"]), (0, b""))
        for number in range(30):
            self.responder.peers.announce(bytes([number]) * 20, b"peer-1", b"net", 1000.0)
        values = self.ask(b"sample_infohashes", {b"target": b"x" * 20})
        self.assertEqual((values[b"num"], len(values[b"samples"])), (30, 400))
        self.assertEqual((values[b"interval"], len(values[b"nodes"])), (SAMPLE_INTERVAL, 208))
        again = self.ask(b"sample_infohashes", {b"target": b"x" * 20})
        self.assertEqual(again[b"samples"], values[b"samples"])
        self.clock.advance(SAMPLE_INTERVAL)
        later = self.ask(b"sample_infohashes", {b"target": b"x" * 20})
        self.assertNotEqual(later[b"samples"], values[b"samples"])

    def test_unknown(self) -> None:
        """
        An unknown method is answered like C{find_node} if it has a target, with 204
        otherwise.
        """
        nodes = (b"x" * 20 + b"4nodes") * 8
        self.assertEqual(self.ask(b"vote", {b"target": b"x" * 20}), {b"nodes": nodes})
        self.assertEqual(self.ask(b"vote", {b"info_hash": b"x" * 20}), {b"nodes": nodes})
        for arguments in ({}, {b"target": b"short"}, {b"target": 1}):
            self.assertEqual(self.code(b"vote", dict(arguments)), 204)

    def test_faulty_queries(self) -> None:
        """
        A missing or invalid id, method or target is error 203.
        """
        self.assertEqual(self.code(b"ping", {}, node_id=b""), 203)
        self.assertEqual(self.code(b"", {}), 203)
        for method, name in (
            (b"find_node", b"target"),
            (b"get", b"target"),
            (b"sample_infohashes", b"target"),
            (b"get_peers", b"info_hash"),
        ):
            for value in (b"", b"x" * 19, b"x" * 21, 1, [b"x" * 20]):
                self.assertEqual(self.code(method, {name: value}), 203)
            self.assertEqual(self.code(method, {}), 203)

    def test_server_error(self) -> None:
        """
        An unexpected exception is error 202, and logged once.
        """
        with patch.object(self.responder.items, "get", side_effect=ZeroDivisionError):
            for _ in range(3):
                self.assertEqual(self.code(b"get", {b"target": b"x" * 20}), 202)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.responder.counters["faults"], 3)


class ItemTests(ResponderTestCase):
    """
    BEP44.
    """

    def test_immutable(self) -> None:
        """
        Any bencoded value is stored under its hash and returned unchanged.
        """
        for value in (b"Hello World!", 7, [b"a", [1]], {b"x": {b"y": b"z"}}, b"v" * 996):
            target = sha1(encode(value)).digest()
            values = self.ask(b"get", {b"target": target})
            self.assertEqual(set(values), {b"nodes", b"token"})
            self.assertEqual(self.ask(b"put", {b"v": value, b"token": values[b"token"]}), {})
            values = self.ask(b"get", {b"target": target})
            self.assertEqual(values[b"v"], value)
            self.assertEqual(set(values), {b"nodes", b"token", b"v"})

    def test_mutable(self) -> None:
        """
        A mutable item is returned with its key, seq and signature, and with nodes and a
        token.
        """
        for salt in (b"", b"salt", b"x" * 64):
            item = sign_item(_SEED, salt, 2**63 - 1, b"value")
            self.assertEqual(self.ask(b"put", self.put_arguments(item)), {})
            values = self.ask(b"get", {b"target": item.target, b"seq": 0})
            self.assertEqual(set(values), {b"k", b"nodes", b"seq", b"sig", b"token", b"v"})
            self.assertEqual((values[b"k"], values[b"sig"]), (item.public_key, item.signature))
            self.assertEqual((values[b"seq"], values[b"v"]), (2**63 - 1, b"value"))

    def test_get_with_seq(self) -> None:
        """
        A querier that knows this seq or a higher one gets no value.
        """
        item = sign_item(_SEED, b"", 5, b"value")
        self.ask(b"put", self.put_arguments(item))
        for known, there in ((4, True), (5, False), (6, False), (b"6", True)):
            values = self.ask(b"get", {b"target": item.target, b"seq": known})
            self.assertEqual(b"v" in values, there)
            self.assertEqual(values[b"seq"], 5)
            self.assertIn(b"token", values)
            self.assertIn(b"nodes", values)

    def test_seq_and_cas(self) -> None:
        """
        Errors 301 and 302 as in BEP44; a refused put changes nothing.
        """
        item = sign_item(_SEED, b"", 5, b"value")
        self.assertEqual(self.ask(b"put", self.put_arguments(item, cas=77)), {})
        other = sign_item(_SEED, b"", 5, b"other")
        lower = sign_item(_SEED, b"", 4, b"value")
        higher = sign_item(_SEED, b"", 6, b"value")
        self.assertEqual(self.code(b"put", self.put_arguments(other, v=b"other")), 302)
        self.assertEqual(self.code(b"put", self.put_arguments(lower)), 302)
        self.assertEqual(self.code(b"put", self.put_arguments(lower, cas=0)), 301)
        self.assertEqual(self.code(b"put", self.put_arguments(higher, cas=0)), 301)
        self.assertEqual(self.ask(b"get", {b"target": item.target})[b"sig"], item.signature)
        self.assertEqual(self.ask(b"put", self.put_arguments(higher, cas=5)), {})
        self.assertEqual(self.ask(b"get", {b"target": item.target})[b"seq"], 6)

    def test_refreshed(self) -> None:
        """
        A repeated put keeps the item alive, without verifying it again.
        """
        item = sign_item(_SEED, b"salt", 5, b"value")
        for _ in range(4):
            self.assertEqual(self.ask(b"put", self.put_arguments(item)), {})
            self.clock.advance(7000.0)
        self.assertIn(b"v", self.ask(b"get", {b"target": item.target}))
        self.assertEqual(self.responder.counters, {"stored": 1, "verified": 1, "refreshed": 3})
        self.clock.advance(300.0)
        self.assertNotIn(b"v", self.ask(b"get", {b"target": item.target}))

    def test_errors(self) -> None:
        """
        Each fault has its error code, and nothing is stored.
        """
        item = sign_item(_SEED, b"salt", 5, b"value")
        large = b"v" * 997
        for changes, code in (
            ({"v": large, "sig": sign(_SEED, b"salt", 5, encode(large))}, 205),
            ({"v": b"forged"}, 206),
            ({"sig": b"z" * 64}, 206),
            ({"seq": 6}, 206),
            ({"salt": b"x" * 65}, 207),
            ({"salt": 1}, 203),
            ({"salt": b"other"}, 203),
            ({"token": b"forged!!"}, 203),
            ({"token": b""}, 203),
            ({"token": 1}, 203),
            ({"k": b"k" * 31}, 203),
            ({"k": 1}, 203),
            ({"sig": b"z" * 63}, 203),
            ({"seq": -1}, 203),
            ({"seq": 2**63}, 203),
            ({"seq": b"5"}, 203),
            ({"cas": b"5"}, 203),
            ({"cas": -1}, 203),
        ):
            assert isinstance(changes, dict)
            self.assertEqual(self.code(b"put", self.put_arguments(item, **changes)), code, changes)
        for name in (b"v", b"k", b"sig", b"seq", b"token"):
            arguments = self.put_arguments(item)
            del arguments[name]
            self.assertEqual(self.code(b"put", arguments), 203, name)
        self.assertEqual(
            self.code(b"put", {b"v": large, b"token": self.token(sha1(encode(large)).digest())}), 205
        )
        self.assertEqual(self.code(b"put", {b"v": b"x", b"token": b"forged!!"}), 203)
        self.assertEqual(len(self.responder.items), 0)

    def test_immutable_over_mutable(self) -> None:
        """
        An immutable item whose target is that of a mutable one does not replace it.
        """
        target = sha1(encode(b"value")).digest()
        item = sign_item(_SEED, b"salt", 5, b"other")
        self.responder.items.put(target, item, b"net", self.clock.seconds())
        self.assertEqual(self.ask(b"put", {b"v": b"value", b"token": self.token(target)}), {})
        self.assertEqual(self.responder.items.get(target, self.clock.seconds()), item)
        self.assertEqual(self.ask(b"get", {b"target": target})[b"v"], b"other")

    def test_unsigned_under_a_key(self) -> None:
        """
        A put with a key and salt but no signature is not stored as immutable: it would
        shadow the mutable item (docs/protocol/dht.md section 1).
        """
        item = sign_item(_SEED, b"salt", 5, b"value")
        arguments = self.put_arguments(item)
        del arguments[b"sig"], arguments[b"seq"]
        self.assertEqual(self.code(b"put", arguments), 203)
        arguments[b"token"] = self.token(sha1(encode(b"value")).digest())
        self.assertEqual(self.code(b"put", arguments), 203)
        self.assertEqual(len(self.responder.items), 0)

    def test_token_before_signature(self) -> None:
        """
        Without a valid token no signature is verified.
        """
        item = sign_item(_SEED, b"salt", 5, b"value")
        self.code(b"put", self.put_arguments(item, token=b"forged!!"))
        self.assertEqual(self.responder.counters["verified"], 0)

    def test_token_of_another_address(self) -> None:
        """
        A token is not valid for another IP.
        """
        item = sign_item(_SEED, b"salt", 5, b"value")
        arguments = self.put_arguments(item)
        self.assertEqual(self.code(b"put", arguments, host="10.0.0.2"), 203)
        self.assertEqual(self.ask(b"put", arguments, port=9), {})


class LimitTests(ResponderTestCase):
    """
    Limits on replies to addresses that may be spoofed.
    """

    def setUp(self) -> None:
        """
        A responder in an open network.
        """
        super().setUp()
        self.item = sign_item(_SEED, b"salt", 5, b"value")
        self.responder = self.make(limits=AnswerLimits())

    def bytes_sent(self, host: str, seconds: int = 20) -> int:
        """
        Return the number of bytes a constantly querying node gets.
        """
        total = 0
        for _ in range(seconds * 10):
            for _ in range(20):
                total += len(self.reply(b"get", {b"target": self.item.target}, host) or b"")
            self.clock.advance(0.1)
        return total

    def test_limited(self) -> None:
        """
        An unproven address gets 2 kB/s; the rest is dropped and counted.
        """
        total = self.bytes_sent("10.0.1.1")
        self.assertLess(abs(total - 2000 * 20), 3000)
        self.assertGreater(self.responder.counters["limited"], 3000)

    def test_other_networks(self) -> None:
        """
        The load of one network does not affect another.
        """
        self.bytes_sent("10.0.1.1", seconds=2)
        self.assertIsNotNone(self.reply(b"ping", {}, "10.0.2.1"))

    def test_proven(self) -> None:
        """
        An address that has replied before gets half of the upload, 4 kB/s.
        """
        self.responder.limits.prove(encode_address("10.0.1.1", 0)[:-2], 1000.0)
        self.assertLess(abs(self.bytes_sent("10.0.1.1") - 4000 * 20), 6000)

    def test_token_proves(self) -> None:
        """
        A put with a valid token is answered however much was sent before, and its
        address then has the limit of a proven one; a put with an invalid token is not
        answered.
        """
        arguments = self.put_arguments(self.item)
        while self.reply(b"ping", {}) is not None:
            pass
        self.assertIsNone(self.reply(b"put", {**arguments, b"token": b"forged!!"}))
        self.assertIsNone(self.reply(b"ping", {}))
        self.assertEqual(self.ask(b"put", arguments), {})
        self.assertEqual(self.ask(b"ping", {}), {})
