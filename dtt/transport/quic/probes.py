"""
Probes: the datagrams by which two members find a path between them.  Pure.

Rules (docs/protocol/quic.md section 3)::

    probe key = SHA-512("dtt/1 probe" ‖ topic_id ‖ initial_secret_hash)[:32]
    hint      = HMAC-SHA256(probe key, "hint" ‖ unix minute: BE64)[:4]
    PING, PONG = magic[4] ‖ hint[4] ‖ nonce[12] ‖ sealed[88]
    sealed    = ChaCha20-Poly1305(key, nonce, associated data magic ‖ hint) of
                sender id[32] ‖ receiver id[32] ‖ unix seconds: BE64
    key       = HMAC-SHA256(probe key, "ping"), and "pong" for the answer

A PONG repeats the nonce of its PING, and is as large.  Only members of the topic can
read or write a probe; to others, two probes have nothing in common but the hint of the
minute.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from typing import Final

from attrs import field, frozen
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from dtt.identity import KEY_BYTES, is_valid_peer_id
from dtt.interfaces import PeerId

#: The first byte is neither that of a KRPC message nor of a QUIC packet
#: (docs/protocol/quic.md section 2).
PING: Final = b"\x00dt\x01"
PONG: Final = b"\x00dt\x02"

#: Bytes of the parts and of a probe.
MAGIC_SIZE: Final = 4
HINT_SIZE: Final = 4
NONCE_SIZE: Final = 12
_TIME_SIZE: Final = 8
_TAG_SIZE: Final = 16
_SEALED_AT: Final = MAGIC_SIZE + HINT_SIZE + NONCE_SIZE
PROBE_SIZE: Final = _SEALED_AT + 2 * KEY_BYTES + _TIME_SIZE + _TAG_SIZE

#: Seconds by which the clocks of two members may differ (docs/protocol/quic.md section 3).
MAX_SKEW: Final = 180
_MINUTES: Final = MAX_SKEW // 60

#: Nonces of valid PINGs that are remembered, to refuse replays (guess: the limits on
#: probes let a peer send far fewer within 6 minutes).
MAX_NONCES: Final = 8192


@frozen(slots=True)
class Probe:
    """
    A valid probe.

    @ivar is_ping: whether it is a PING.
    @ivar topic_id: the topic whose key sealed it (32 bytes).
    @ivar sender: the peer that sent it (32 bytes).
    @ivar nonce: 12 bytes; a PONG has that of its PING.
    """

    is_ping: bool
    topic_id: bytes
    sender: PeerId
    nonce: bytes


@frozen(slots=True)
class _Keys:
    hint: bytes = field(repr=False)
    ping: ChaCha20Poly1305
    pong: ChaCha20Poly1305


def probe_key(topic_id: bytes, secret_hash: bytes) -> bytes:
    """
    Return the probe key of a topic (32 bytes).

    @param topic_id: 32 bytes.
    @param secret_hash: the initial secret hash (32 bytes).
    """
    return hashlib.sha512(b"dtt/1 probe" + topic_id + secret_hash).digest()[:32]


def hint_at(key: bytes, minute: int) -> bytes:
    """
    Return the hint of a minute (4 bytes).

    @param key: the probe key.
    @param minute: the unix minute.
    """
    return hmac.digest(key, b"hint" + minute.to_bytes(8, "big"), "sha256")[:HINT_SIZE]


class Probes:
    """
    Writes and reads the probes of all topics of one member.
    """

    def __init__(self, own_id: PeerId) -> None:
        """
        @param own_id: our peer id (32 bytes).
        """
        self._own_id = own_id
        self._topics: dict[bytes, _Keys] = {}
        # The topics of each hint; the minutes that it covers.
        self._hints: dict[bytes, list[bytes]] = {}
        self._minute: int | None = None
        self._nonces: set[bytes] = set()
        self._by_age: deque[tuple[float, bytes]] = deque()

    @property
    def topics(self) -> tuple[bytes, ...]:
        """
        The open topics.
        """
        return tuple(self._topics)

    def is_open(self, topic_id: bytes) -> bool:
        """
        Return whether probes of a topic can be written and read.
        """
        return topic_id in self._topics

    def open_topic(self, topic_id: bytes, secret_hash: bytes) -> None:
        """
        Read probes of this topic from now on.
        """
        key = probe_key(topic_id, secret_hash)
        ping, pong = (ChaCha20Poly1305(hmac.digest(key, label, "sha256")) for label in (b"ping", b"pong"))
        self._topics[topic_id] = _Keys(key, ping, pong)
        self._minute = None

    def close_topic(self, topic_id: bytes) -> None:
        """
        Ignore probes of this topic from now on.
        """
        self._topics.pop(topic_id, None)
        self._minute = None

    def ping(self, topic_id: bytes, receiver: PeerId, nonce: bytes, now: float) -> bytes:
        """
        Return a PING.

        @param topic_id: an open topic.
        @param receiver: the peer id that is to answer (32 bytes).
        @param nonce: 12 bytes, never used before.
        @param now: unix seconds.
        """
        return self._seal(PING, topic_id, receiver, nonce, now)

    def pong(self, ping: Probe, now: float) -> bytes:
        """
        Return the answer to a PING.
        """
        return self._seal(PONG, ping.topic_id, ping.sender, ping.nonce, now)

    def may_be_valid(self, datagram: bytes, now: float) -> bool:
        """
        Return whether a datagram has the form of a probe and the hint of an open topic:
        nothing is decrypted to find that out.
        """
        if len(datagram) != PROBE_SIZE or datagram[:MAGIC_SIZE] not in (PING, PONG):
            return False
        self._update_hints(int(now // 60))
        return datagram[MAGIC_SIZE : MAGIC_SIZE + HINT_SIZE] in self._hints

    def open(self, datagram: bytes, now: float) -> Probe | None:
        """
        Return the probe in C{datagram}; C{None} if it is not a valid one for us: forged, for another
        receiver, of a topic that is not open, more than 3 minutes away from our time, or a repeated PING.
        """
        magic = datagram[:MAGIC_SIZE]
        if not self.may_be_valid(datagram, now):
            return None
        head = datagram[: MAGIC_SIZE + HINT_SIZE]
        nonce = datagram[MAGIC_SIZE + HINT_SIZE : _SEALED_AT]
        for topic_id in self._hints.get(head[MAGIC_SIZE:], ()):
            keys = self._topics[topic_id]
            try:
                opened = (keys.ping if magic == PING else keys.pong).decrypt(
                    nonce, datagram[_SEALED_AT:], head
                )
            except InvalidTag:
                continue
            sender, receiver = opened[:KEY_BYTES], opened[KEY_BYTES : 2 * KEY_BYTES]
            sent = int.from_bytes(opened[2 * KEY_BYTES :], "big")
            if receiver != self._own_id or sender == self._own_id or abs(sent - now) > MAX_SKEW:
                return None
            if not is_valid_peer_id(sender) or (magic == PING and not self._is_new(nonce, now)):
                return None
            return Probe(magic == PING, topic_id, sender, nonce)
        return None

    def _seal(self, magic: bytes, topic_id: bytes, receiver: PeerId, nonce: bytes, now: float) -> bytes:
        keys = self._topics[topic_id]
        head = magic + hint_at(keys.hint, int(now // 60))
        body = self._own_id + receiver + int(now).to_bytes(_TIME_SIZE, "big")
        cipher = keys.ping if magic == PING else keys.pong
        return head + nonce + cipher.encrypt(nonce, body, head)

    def _update_hints(self, minute: int) -> None:
        if minute == self._minute:
            return
        self._minute = minute
        self._hints = {}
        for topic_id, keys in self._topics.items():
            for near in range(max(0, minute - _MINUTES), minute + _MINUTES + 1):
                self._hints.setdefault(hint_at(keys.hint, near), []).append(topic_id)

    def _is_new(self, nonce: bytes, now: float) -> bool:
        by_age = self._by_age
        # A probe is valid within MAX_SKEW of its time, whichever way the clocks differ.
        while by_age and by_age[0][0] < now - 2 * MAX_SKEW:
            self._nonces.discard(by_age.popleft()[1])
        if nonce in self._nonces:
            return False
        if len(by_age) >= MAX_NONCES:
            self._nonces.discard(by_age.popleft()[1])
        self._nonces.add(nonce)
        by_age.append((now, nonce))
        return True
