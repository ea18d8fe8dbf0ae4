"""
The numbers of the gossip protocol.  Pure.

What peers must agree on, or what shapes the overlay, is upstream's default
(iroh-gossip 0.101, docs/protocol/gossip.md section 1); what only bounds our own
memory is ours.
"""

from __future__ import annotations

from attrs import Attribute, field, frozen
from attrs.validators import ge, gt

#: Bytes of a Gossip message around its content, at most: two discriminants,
#: the id, a two-byte length, the scope and a three-byte round
#: (docs/protocol/gossip.md section 10, "Sizes").
_GOSSIP_OVERHEAD = 2 + 32 + 2 + 1 + 3

#: What an IHave of K entries takes is (P - 3) / 35 (section 7), with
#: P = max_message_size - 33.
_IHAVE_RESERVED = 33 + 3
_IHAVE_ENTRY = 35


def _is_u16(instance: GossipConfig, attribute: Attribute[int], value: int) -> None:
    if not 0 <= value <= 0xFFFF:
        raise ValueError(f"{attribute.name} must be 0..65535")


@frozen(slots=True)
class GossipConfig:
    """
    Settings of one topic's machines.  Times are seconds.

    @ivar max_message_size: bytes of a frame body that are refused; we send
        less.  Must be equal in the whole swarm.  Upstream; minimum 512.
    @ivar active_view_capacity: neighbours.  Upstream; HyParView paper 5.1.
    @ivar passive_view_capacity: known others.  Upstream; HyParView paper 5.1.
    @ivar active_random_walk_length: first ttl of a ForwardJoin.  Upstream.
    @ivar passive_random_walk_length: the ttl at which a ForwardJoin also
        enters the passive view.  Upstream.
    @ivar shuffle_random_walk_length: first ttl of a Shuffle.  Upstream.
    @ivar shuffle_active_view_count: neighbours in a Shuffle.  Upstream.
    @ivar shuffle_passive_view_count: passive peers in a Shuffle.  Upstream.
    @ivar shuffle_interval: between two Shuffles of ours.  Upstream.
    @ivar neighbor_request_timeout: for the answer to a Neighbor, from the
        authentication of a connection that had to be opened first
        (docs/protocol/streams.md section 4).  Upstream.
    @ivar graft_timeout_1: IHave to first Graft.  Upstream.
    @ivar graft_timeout_2: Graft to the next one.  Upstream.
    @ivar dispatch_timeout: how long IHaves are gathered.  Upstream.
    @ivar optimization_threshold: hops that a shorter path must save.  Upstream.
    @ivar message_cache_retention: how long contents are kept for Grafts.
        Upstream.
    @ivar message_id_retention: how long duplicates are known.  Upstream.
    @ivar cache_evict_interval: between two evictions.  Upstream.

    @ivar neighbor_answer_interval: a Neighbor that nobody asked for, from a
        peer that is a neighbour already, is answered only so often: two nodes
        that both take the other's late answer for a request would answer each
        other for ever.  Guess: longer than any round trip.
    @ivar max_answered: peers of which it is known when they were answered; the
        oldest go first.  Guess: what joins one node within that interval.
    @ivar dial_limit: how long a Neighbor request waits for the end of a dial
        that was started: more than any transport's own limit (iroh gives up
        after 30 s, docs/protocol/gossip.md section 5), so only a fault of the
        transport reaches it.
    @ivar max_pending: Neighbor requests without an answer; ForwardJoins beyond
        it enter the passive view in place.  Guess: the passive view's size.
    @ivar max_nodes: nodes that are read of a Shuffle or its reply.  Guess:
        four times what upstream's defaults send (8).
    @ivar max_peer_data: bytes of one PeerData that are kept and passed on
        (longer ones are told once and forgotten).  Guess: three times relay
        and 8 addresses.
    @ivar max_known_data: peers whose PeerData is kept.  Guess: well above the
        views' 35, which never lose theirs.
    @ivar max_received: message ids known as received; the oldest go first.
        About 15 MB.  Guess: 1100 messages a second for 90 s.
    @ivar max_cached: contents kept for Grafts; the oldest go first.  Measured:
        a Rust member sends 40000 a second, and a Graft may come half a second
        late.  About 15 MB besides the contents.
    @ivar max_cached_bytes: bytes of them.  Measured: likewise, 16000 contents
        of full size a second.
    @ivar max_behind: contents that a neighbour may not have got yet before who
        broadcasts should wait.  Guess: an eighth of C{max_cached}, and a half of
        what C{max_cached_bytes} holds of the largest contents.
    @ivar max_silence: seconds without an announcement or content after which a
        neighbour is not waited for.  Guess: many times what its announcements
        wait (5 ms).
    @ivar max_missing: announced contents that are awaited; about 10 MB, for a
        moment.  Guess: two peers' share.
    @ivar max_missing_per_peer: of them, announced by one peer; what is
        announced beyond it is asked for at once.  Measured: 40000 a second for
        twice the time that one waits before asking.
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
        Bytes of the largest message that we send: upstream refuses to write
        one of max_message_size.
        """
        return self.max_message_size - 1

    @property
    def max_content(self) -> int:
        """
        Bytes of the largest content that every member can forward whatever
        its round (4055 by default; docs/protocol/gossip.md section 10).
        """
        return self.max_sent - _GOSSIP_OVERHEAD

    @property
    def max_ihave_entries(self) -> int:
        """
        Entries of one IHave (116 by default).
        """
        return (self.max_message_size - _IHAVE_RESERVED) // _IHAVE_ENTRY
