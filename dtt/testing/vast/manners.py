"""
How the DHT's implementations differ as servers.  Pure.

As measured and read (docs/protocol/dht.md section 1): each L{Manner} is a column of
that table.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from dtt.krpc.messages import INVALID_SIGNATURE, VERSION
from dtt.testing.vast.tables import BUCKET


@frozen(slots=True)
class Manner:
    """
    What one implementation does.

    @ivar version: its C{v}; C{b""} if it sends none.
    @ivar tells_address: it sends C{ip} (BEP42).
    @ivar bucket: entries of a bucket of its table.
    @ivar tells: nodes in an answer.
    @ivar token_size: bytes of a write token.
    @ivar strict: it drops queries whose C{t} or C{v} has not 4 bytes, and puts
        without C{target}.
    @ivar samples: it knows C{sample_infohashes} (BEP51).
    @ivar guesses: an unknown query with a target is answered as C{find_node}.
    @ivar unknown: the error to any other unknown query; 0: no reply.
    @ivar nodes_beside_peers: an answer with peers has nodes, too.
    @ivar stores: it knows C{get} and C{put} (BEP44).
    @ivar nodes_beside_value: an answer with a value has nodes, too.
    @ivar always_value: the value is told also to who has it, by C{seq}.
    @ivar equal: what a put of another value with the stored C{seq} does:
        C{"keep"}: answered, but the old value stays; C{"replace"};
        C{"refuse"}: 302; C{"refuse same"}: 302, even if the value is the same.
    @ivar max_seq: the greatest C{seq} that it can compute with; puts above get no reply.
    @ivar raw_size: a value may have 1000 bytes without its length; otherwise, with it.
    @ivar any_salt: a salt of more than 64 bytes is taken.
    @ivar bad_signature: the error for it; 0: no reply.
    @ivar shadows: a put with a key but without a signature is stored as
        immutable at the mutable target.
    """

    version: bytes = b""
    tells_address: bool = True
    bucket: int = BUCKET
    tells: int = 8
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


#: By name.  What the table does not say is read in the sources: libtorrent 2.1
#: node.cpp, mainline 7.0 rpc/server.rs, bittorrent-dht 11.0 client.js, and
#: jech/dht dht.c.
MANNERS: Final = {
    "libtorrent": Manner(
        version=b"LT\x02\x01", samples=True, guesses=True, unknown=203, equal="keep", shadows=True
    ),
    "mainline": Manner(
        version=b"RS\x00\x05", bucket=20, tells=20, strict=True, equal="replace", raw_size=True
    ),
    # It really tells all that it knows, several kilobytes; here its bucket size.
    "bittorrent-dht": Manner(
        tells_address=False,
        bucket=20,
        tells=20,
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
    "jech": Manner(version=b"JC\x00\x00", tells_address=False, token_size=8, stores=False),
}
