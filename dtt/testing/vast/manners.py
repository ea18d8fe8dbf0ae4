"""
The differences between DHT implementations as servers.  Pure.

Taken from measurements and sources (docs/protocol/dht.md section 1). Each L{Manner} is a
column of that table.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from dtt.krpc.messages import INVALID_SIGNATURE, VERSION
from dtt.testing.vast.tables import BUCKET


@frozen(slots=True)
class Manner:
    """
    The behaviour of one implementation.

    @ivar version: the C{v} that it sends; C{b""}: none.
    @ivar sends_address: it sends C{ip} (BEP42).
    @ivar bucket: the capacity of a k-bucket.
    @ivar nodes_per_reply: nodes in a reply.
    @ivar token_size: bytes of a write token.
    @ivar strict: it drops queries whose C{t} or C{v} is not 4 bytes long, and puts
        without C{target}.
    @ivar samples: it supports C{sample_infohashes} (BEP51).
    @ivar guesses: it answers an unknown query that has a target as C{find_node}.
    @ivar unknown: the error code for any other unknown query; 0: no reply.
    @ivar nodes_beside_peers: a reply with peers also has nodes.
    @ivar stores: it supports C{get} and C{put} (BEP44).
    @ivar nodes_beside_value: a reply with a value also has nodes.
    @ivar always_value: it sends the value even if the query's C{seq} says that the client
        has it.
    @ivar equal: the effect of a put of another value with the stored C{seq}: C{"keep"}:
        answered, but the old value stays; C{"replace"}; C{"refuse"}: 302; C{"refuse
        same"}: 302, even if the value is the same.
    @ivar max_seq: the largest C{seq} that it can represent; larger puts get no reply.
    @ivar raw_size: the limit of 1000 bytes applies to the value without its bencoded
        length prefix; otherwise, with it.
    @ivar any_salt: it accepts a salt of more than 64 bytes.
    @ivar bad_signature: the error code for a bad signature; 0: no reply.
    @ivar shadows: it stores a put with a key but without a signature as an immutable item
        at the mutable target.
    """

    version: bytes = b""
    sends_address: bool = True
    bucket: int = BUCKET
    nodes_per_reply: int = 8
    token_size: int = 4
    strict: bool = False
    samples: bool = False
    guesses: bool = False
    unknown: int = 0
    nodes_beside_peers: bool = True
    stores: bool = True
    nodes_beside_value: bool = True
    always_value: bool = False
    equal: str = "refuse"
    max_seq: int = 2**63 - 1
    raw_size: bool = False
    any_salt: bool = False
    bad_signature: int = INVALID_SIGNATURE
    shadows: bool = False


#: The implementations, by name.  Data that is not in the table comes from the sources: libtorrent 2.1
#: node.cpp, mainline 7.0 rpc/server.rs, bittorrent-dht 11.0 client.js, and jech/dht dht.c.
MANNERS: Final = {
    "libtorrent": Manner(
        version=b"LT\x02\x01", samples=True, guesses=True, unknown=203, equal="keep", shadows=True
    ),
    "mainline": Manner(
        version=b"RS\x00\x05", bucket=20, nodes_per_reply=20, strict=True, equal="replace", raw_size=True
    ),
    # The real one sends all nodes that it knows, several kilobytes; here it sends one bucket.
    "bittorrent-dht": Manner(
        sends_address=False,
        bucket=20,
        nodes_per_reply=20,
        token_size=20,
        nodes_beside_peers=False,
        nodes_beside_value=False,
        always_value=True,
        equal="refuse same",
        max_seq=2**53,
        raw_size=True,
        any_salt=True,
        bad_signature=0,
    ),
    "dtt": Manner(version=VERSION, token_size=8, samples=True, guesses=True, unknown=204),
    "jech": Manner(version=b"JC\x00\x00", sends_address=False, token_size=8, stores=False),
}
