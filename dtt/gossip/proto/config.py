"""
The parameters of the gossip protocol.  Pure.

Parameters that peers must agree on, or that shape the overlay, have upstream's defaults
(iroh-gossip 0.101, docs/protocol/gossip.md section 1); limits on our own memory are
specific to dtt.
"""

from __future__ import annotations

from attrs import Attribute, field, frozen
from attrs.validators import ge, gt

#: Maximum overhead of a Gossip message in bytes: two discriminants, the id, a two-byte length, the
#: scope and a three-byte round (docs/protocol/gossip.md section 10, "Sizes").
_GOSSIP_OVERHEAD = 2 + 32 + 2 + 1 + 3

#: An IHave holds K = (P - 3) / 35 entries (section 7), with P = max_message_size - 33.
_IHAVE_RESERVED = 33 + 3
_IHAVE_ENTRY = 35


def _is_u16(instance: GossipConfig, attribute: Attribute[int], value: int) -> None:
    if not 0 <= value <= 0xFFFF:
        raise ValueError(f"{attribute.name} must be 0..65535")


@frozen(slots=True)
class GossipConfig:
    """
    Settings of one topic's state machines.  Times are seconds.

    @ivar max_message_size: frame bodies of this many bytes or more are refused; we send
        less.  Must be equal in the whole swarm.  Upstream; minimum 512.
    @ivar active_view_capacity: maximum number of neighbours.  Upstream; HyParView paper
        5.1.
    @ivar passive_view_capacity: maximum number of other known peers.  Upstream;
        HyParView paper 5.1.
    @ivar active_random_walk_length: initial ttl of a ForwardJoin.  Upstream.
    @ivar passive_random_walk_length: the ttl at which a ForwardJoin is also added to
        the passive view.  Upstream.
    @ivar shuffle_random_walk_length: initial ttl of a Shuffle.  Upstream.
    @ivar shuffle_active_view_count: neighbours in a Shuffle.  Upstream.
    @ivar shuffle_passive_view_count: passive peers in a Shuffle.  Upstream.
    @ivar shuffle_interval: time between our Shuffles.  Upstream.
    @ivar neighbor_request_timeout: time for the answer to a Neighbor, counted from the
        authentication of a connection that had to be opened first
        (docs/protocol/streams.md section 4).  Upstream.
    @ivar graft_timeout_1: time from IHave to the first Graft.  Upstream.
    @ivar graft_timeout_2: time from a Graft to the next one.  Upstream.
    @ivar dispatch_timeout: how long IHave entries are collected.  Upstream.
    @ivar optimization_threshold: hops that a shorter path must save.  Upstream.
    @ivar message_cache_retention: how long contents are kept for Grafts.  Upstream.
    @ivar message_id_retention: how long duplicates are recognised.  Upstream.
    @ivar cache_evict_interval: time between evictions.  Upstream.

    @ivar neighbor_answer_interval: minimum time between answers to unsolicited
        Neighbors from a peer that is already a neighbour: two nodes that both mistake
        the other's late answer for a request would otherwise answer each other
        forever.  Guess: longer than any round trip.
    @ivar max_answered: number of peers whose last answer time is kept; the oldest are
        dropped first.  Guess: what joins one node within that interval.
    @ivar dial_limit: how long a Neighbor request waits for the end of a dial in
        progress.  Longer than any transport's own limit (iroh gives up after 30 s,
        docs/protocol/gossip.md section 5), so only a fault of the transport reaches it.
    @ivar max_pending: Neighbor requests without an answer; peers of further
        ForwardJoins are added to the passive view instead.  Guess: the passive view's
        size.
    @ivar max_nodes: nodes accepted from a Shuffle or its reply.  Guess: four times what
        upstream's defaults send (8).
    @ivar max_peer_data: maximum size in bytes of a PeerData that is kept and forwarded
        (a longer one is reported once and then dropped).  Guess: three times a relay
        and 8 addresses.
    @ivar max_known_data: peers whose PeerData is kept.  Guess: well above the views'
        35, whose PeerData is never dropped.
    @ivar max_received: message ids kept as received; the oldest are dropped first.
        About 15 MB.  Guess: 1100 messages per second for 90 s.
    @ivar max_cached: contents kept for Grafts; the oldest are dropped first.  Measured:
        a Rust member sends 40000 per second, and a Graft may come half a second late.
        About 15 MB in addition to the contents.
    @ivar max_cached_bytes: total size of these contents in bytes.  Measured: likewise,
        16000 contents of maximum size per second.
    @ivar max_behind: contents that a neighbour may not have received yet before
        broadcasts should wait.  Guess: an eighth of C{max_cached}, and half of the
        largest contents that fit into C{max_cached_bytes}.
    @ivar max_silence: seconds without an announcement or content after which broadcasts
        do not wait for a neighbour.  Guess: many times the delay of its announcements
        (5 ms).
    @ivar max_missing: announced contents that are awaited; about 10 MB, for a short
        time.  Guess: the share of two peers.
    @ivar max_missing_per_peer: the share of one peer; contents that it announces beyond
        this are requested immediately.  Measured: 40000 per second for twice the time
        before a Graft.
    """

    max_message_size: int = field(default=4096, validator=ge(512))
    active_view_capacity: int = field(default=5, validator=ge(1))
    passive_view_capacity: int = field(default=30, validator=ge(1))
    active_random_walk_length: int = field(default=6, validator=_is_u16)
    passive_random_walk_length: int = field(default=3, validator=_is_u16)
    shuffle_random_walk_length: int = field(default=6, validator=_is_u16)
    shuffle_active_view_count: int = field(default=3, validator=ge(0))
    shuffle_passive_view_count: int = field(default=4, validator=ge(0))
    shuffle_interval: float = field(default=60.0, validator=gt(0))
    neighbor_request_timeout: float = 0.5
    graft_timeout_1: float = 0.080
    graft_timeout_2: float = 0.040
    dispatch_timeout: float = 0.005
    optimization_threshold: int = 7
    message_cache_retention: float = 30.0
    message_id_retention: float = 90.0
    cache_evict_interval: float = field(default=1.0, validator=gt(0))

    neighbor_answer_interval: float = 5.0
    max_answered: int = field(default=1024, validator=ge(1))
    dial_limit: float = 40.0
    max_pending: int = field(default=30, validator=ge(1))
    max_nodes: int = field(default=32, validator=ge(1))
    max_peer_data: int = field(default=1024, validator=ge(0))
    max_known_data: int = field(default=128, validator=ge(1))
    max_received: int = field(default=100_000, validator=ge(1))
    max_cached: int = field(default=32_768, validator=ge(1))
    max_cached_bytes: int = field(default=32 * 2**20, validator=ge(1))
    max_behind: int = field(default=4096, validator=ge(1))
    max_silence: float = 1.0
    max_missing: int = field(default=16_384, validator=ge(1))
    max_missing_per_peer: int = field(default=8192, validator=ge(1))

    @property
    def max_sent(self) -> int:
        """
        Size in bytes of the largest message that we send: upstream does not write one
        of C{max_message_size}.
        """
        return self.max_message_size - 1

    @property
    def max_content(self) -> int:
        """
        Size in bytes of the largest content that every member can forward, whatever its
        round (4055 by default; docs/protocol/gossip.md section 10).
        """
        return self.max_sent - _GOSSIP_OVERHEAD

    @property
    def max_ihave_entries(self) -> int:
        """
        Maximum number of entries of one IHave (116 by default).
        """
        return (self.max_message_size - _IHAVE_RESERVED) // _IHAVE_ENTRY
