"""
The cost of opening and sealing a record, relative to its primitive operations.

C{python benchmarks/records.py [--quick]}. Each round measures the operation and, directly
after it, each of its primitives, so that both run under the same conditions. The output
shows the median over the rounds with the spread from the 10th to the 90th percentile.
Goal: a ratio of at most 1.5.
"""

from __future__ import annotations

import hashlib
import hmac
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence

from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_decrypt,
    crypto_aead_chacha20poly1305_ietf_encrypt,
    crypto_scalarmult,
    crypto_scalarmult_base,
    crypto_sign,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)

from dtt.identity import PeerKey
from dtt.records.record import ENTROPY_BYTES, GossipContent, Record, encrypt, open_record
from dtt.records.topic import Slot, TopicId, encryption_key, initial_secret_hash
from dtt.wire.addresses import STREAMS, PeerAddress

#: A primitive, and how often the operation uses it.
Primitives = Sequence[tuple[int, Callable[[], object]]]

GOAL = 1.5


def seconds_per_call(call: Callable[[], object], calls: int) -> float:
    """
    The mean duration of C{calls} consecutive calls.
    """
    started = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - started) / calls


def percentile(values: Sequence[float], share: float) -> float:
    """
    The value that C{share} of C{values} do not exceed.
    """
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def compare(
    name: str, operation: Callable[[], object], primitives: Primitives, rounds: int, calls: int
) -> float:
    """
    Measure, print a line, and return the median ratio.
    """
    ratios, whole, parts = [], [], []
    for _ in range(rounds):
        took = seconds_per_call(operation, calls)
        needed = sum(count * seconds_per_call(call, calls) for count, call in primitives)
        whole.append(took)
        parts.append(needed)
        ratios.append(took / needed)
    ratio = statistics.median(ratios)
    took, needed = statistics.median(whole) * 1e6, statistics.median(parts) * 1e6
    spread = f"{percentile(ratios, 0.1):.2f}-{percentile(ratios, 0.9):.2f}"
    print(f"{name:10} {took:7.1f} us   primitives {needed:7.1f} us   ratio {ratio:.2f} ({spread})")
    return ratio


def main(arguments: Sequence[str]) -> int:
    """
    Run both comparisons. Returns 1 if one misses the goal.
    """
    rounds, calls = (15, 40) if "--quick" in arguments else (101, 200)
    rng = random.Random(3)
    peer = PeerKey.from_seed(rng.randbytes(32))
    slot = Slot(TopicId.from_name("benchmark"), 29_400_000)
    key = encryption_key(slot, initial_secret_hash(b"secret"))
    content = GossipContent(
        tuple(rng.randbytes(32) for _ in range(5)),
        tuple(rng.randbytes(32) for _ in range(5)),
        (PeerAddress(STREAMS, "192.0.2.1", 4433),),
    ).encode()
    entropy = rng.randbytes(ENTROPY_BYTES)
    record = Record.sign(peer, slot, content)
    stored = encrypt(record, key.public, entropy)

    public, secret = crypto_sign_seed_keypair(peer.seed)
    plain, aad, nonce, chacha_key = record.encode(), b"a" * 20, bytes(12), bytes(32)
    body = crypto_aead_chacha20poly1305_ietf_encrypt(plain, aad, nonce, chacha_key)
    wrapped = crypto_aead_chacha20poly1305_ietf_encrypt(peer.seed, aad, nonce, chacha_key)
    signed = crypto_sign(plain[:-64], secret)
    # The ten HMACs belong to HKDF: five for each of the two HPKE messages.
    hkdf: Primitives = (
        (10, lambda: hmac.digest(chacha_key, plain[:100], "sha256")),
        (1, lambda: hashlib.sha512(chacha_key).digest()),
    )
    opening: Primitives = (
        (1, lambda: crypto_scalarmult_base(key.secret)),
        (2, lambda: crypto_scalarmult(key.secret, key.public)),
        (1, lambda: crypto_aead_chacha20poly1305_ietf_decrypt(body, aad, nonce, chacha_key)),
        (1, lambda: crypto_aead_chacha20poly1305_ietf_decrypt(wrapped, aad, nonce, chacha_key)),
        (1, lambda: crypto_sign_open(signed, public)),
        *hkdf,
    )
    sealing: Primitives = (
        (3, lambda: crypto_scalarmult_base(key.secret)),
        (2, lambda: crypto_scalarmult(key.secret, key.public)),
        (1, lambda: crypto_aead_chacha20poly1305_ietf_encrypt(plain, aad, nonce, chacha_key)),
        (1, lambda: crypto_aead_chacha20poly1305_ietf_encrypt(peer.seed, aad, nonce, chacha_key)),
        (1, lambda: crypto_sign(plain[:-64], secret)),
        *hkdf,
    )
    print(
        f"record of {len(plain)} bytes, {len(stored)} encrypted; {rounds} rounds of {calls}; goal <= {GOAL}"
    )
    ratios = [
        compare("open", lambda: open_record(stored, slot, key), opening, rounds, calls),
        compare(
            "sign+seal",
            lambda: encrypt(Record.sign(peer, slot, content), key.public, entropy),
            sealing,
            rounds,
            calls,
        ),
    ]
    return int(max(ratios) > GOAL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
