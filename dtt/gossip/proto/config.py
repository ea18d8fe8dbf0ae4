"""
The parameters of the gossip protocol.  Pure.

Parameters that peers must agree on, or that shape the overlay, have upstream's defaults
(iroh-gossip 0.101, docs/protocol/gossip.md section 1); limits on our own memory are
specific to dtt.  What operators may change is in C{[gossip]} of the configuration;
L{GossipConfig} has these and the limits that tests lower.  All times are in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import Factory, field, frozen
from attrs.validators import ge, gt, le

#: Limits of C{max_message_size}: upstream's minimum, and a guess (a content delays others, and is
#: kept in memory).
MIN_MESSAGE_SIZE: Final = 512
MAX_MESSAGE_SIZE: Final = 65_536

#: The default of C{max_message_size}.  Upstream.
DEFAULT_MESSAGE_SIZE: Final = 4096


def max_content(max_message_size: int) -> int:
    """
    Return the size in bytes of the largest content that every member can forward, whatever
    its round: a Gossip message has two discriminants, the id, a length, the scope and a
    three-byte round besides (docs/protocol/gossip.md section 10, "Sizes").  4055 for the
    default of 4096.
    """
    most = max_message_size - 1 - (2 + 32 + 1 + 3)
    return next(most - size for size in (1, 2, 3) if most - size < 1 << 7 * size)


#: The largest content in bytes with the default size of messages.
MAX_CONTENT: Final = max_content(DEFAULT_MESSAGE_SIZE)


#: Initial ttl of a ForwardJoin, the ttl at which it is also added to the passive view, and the
#: maximum ttl of a Shuffle.  Upstream.
ACTIVE_RANDOM_WALK_LENGTH: Final = 6
PASSIVE_RANDOM_WALK_LENGTH: Final = 3
SHUFFLE_RANDOM_WALK_LENGTH: Final = 6

#: Initial ttl of our Shuffles: one less than upstream's.  Most messages of an idle member are
#: Shuffles, and five steps with five neighbours each can reach a thousand members.
SHUFFLE_TTL: Final = 5

#: Neighbours and passive peers in a Shuffle.  Upstream.
SHUFFLE_ACTIVE_VIEW_COUNT: Final = 3
SHUFFLE_PASSIVE_VIEW_COUNT: Final = 4

#: Time for the answer to a Neighbor, counted from the authentication of a connection that had to be
#: opened first (docs/protocol/streams.md section 4).  Upstream.
NEIGHBOR_REQUEST_TIMEOUT: Final = 0.5

#: Time from IHave to the first Graft, and from a Graft to the next one.  Upstream.
GRAFT_TIMEOUT_1: Final = 0.080
GRAFT_TIMEOUT_2: Final = 0.040

#: How long IHave entries are collected.  Upstream.
DISPATCH_TIMEOUT: Final = 0.005

#: Hops that a shorter path must save.  Upstream.
OPTIMIZATION_THRESHOLD: Final = 7

#: How long contents are kept for Grafts, how long duplicates are recognised, and the time between
#: evictions.  Upstream.
MESSAGE_CACHE_RETENTION: Final = 30.0
MESSAGE_ID_RETENTION: Final = 90.0
CACHE_EVICT_INTERVAL: Final = 1.0

#: Minimum time between answers to unsolicited Neighbors from a peer that is already a neighbour:
#: two nodes that both mistake the other's late answer for a request would otherwise answer each
#: other forever.  Guess: longer than any round trip.
NEIGHBOR_ANSWER_INTERVAL: Final = 5.0

#: How long a Neighbor request waits for the end of a dial in progress.  Longer than any transport's
#: own limit (iroh gives up after 30 s, docs/protocol/gossip.md section 5), so only a fault of the
#: transport reaches it.
DIAL_LIMIT: Final = 40.0

#: Neighbor requests without an answer; peers of further ForwardJoins are added to the passive view
#: instead.  Guess: the passive view's size.
MAX_PENDING: Final = 30

#: Nodes accepted from a Shuffle or its reply.  Guess: four times what upstream's defaults send (8).
MAX_NODES: Final = 32

#: Maximum size in bytes of a PeerData that is kept and forwarded (a longer one is reported once and
#: then dropped).  Guess: twice a relay and 12 addresses.
MAX_PEER_DATA: Final = 1024

#: Seconds without an announcement or content after which broadcasts do not wait for a neighbour.
#: Guess: many times the delay of its announcements (5 ms).
MAX_SILENCE: Final = 1.0


def _derived(compute: Callable[[GossipConfig], int]) -> int:
    derived: int = field(init=False, eq=False, repr=False, default=Factory(compute, takes_self=True))
    return derived


@frozen(slots=True)
class GossipConfig:
    """
    Settings that may differ between topics, and limits that tests lower.

    @ivar active_view_capacity: maximum number of neighbours.  Upstream; HyParView paper
        5.1.
    @ivar passive_view_capacity: maximum number of other known peers.  Upstream;
        HyParView paper 5.1.
    @ivar shuffle_interval: time between our Shuffles.  Upstream.
    @ivar max_cached_bytes: total size in bytes of the contents kept for Grafts; the
        oldest are dropped first.  Measured: a Rust member sends 16000 contents of
        maximum size per second, and a Graft may come half a second late.

    @ivar max_message_size: frame bodies larger than this are refused; L{MIN_MESSAGE_SIZE}
        to L{MAX_MESSAGE_SIZE}.  Must be equal in the whole swarm.  Upstream.
    @ivar max_sent: the size in bytes of the largest message that we send: upstream does
        not write one of C{max_message_size}.
    @ivar max_content: see L{max_content}.
    @ivar max_ihave_entries: maximum number of entries of an IHave: K = (P - 3) / 35 with P
        = C{max_message_size} - 33 (docs/protocol/gossip.md section 7).

    @ivar max_answered: number of peers whose last answer time is kept; the oldest are
        dropped first.  Guess: what joins one node within that interval.
    @ivar max_known_data: peers whose PeerData is kept; those in a view are never
        dropped.  Guess: well above the views' 35.
    @ivar max_received: message ids kept as received; the oldest are dropped first.
        About 15 MB.  Guess: 1100 messages per second for 90 s.
    @ivar max_cached: number of contents kept for Grafts.  Measured: a Rust member sends
        40000 small ones per second.  About 15 MB in addition to the contents.
    @ivar max_behind: contents that a neighbour may not have received yet before
        broadcasts should wait.  Guess: an eighth of C{max_cached}, and half of the
        largest contents that fit into C{max_cached_bytes}.
    @ivar max_missing: announced contents that are awaited; about 10 MB, for a short
        time.  Guess: the share of two peers.
    @ivar max_missing_per_peer: the share of one peer; contents that it announces beyond
        this are requested immediately.  Measured: 40000 per second for twice the time
        before a Graft.
    """

    active_view_capacity: int = field(default=5, validator=ge(1))
    passive_view_capacity: int = field(default=30, validator=ge(1))
    shuffle_interval: float = field(default=60.0, validator=gt(0))
    max_cached_bytes: int = field(default=32 * 2**20, validator=ge(1))

    max_message_size: int = field(
        default=DEFAULT_MESSAGE_SIZE, validator=[ge(MIN_MESSAGE_SIZE), le(MAX_MESSAGE_SIZE)]
    )
    max_sent: int = _derived(lambda config: config.max_message_size - 1)
    max_content: int = _derived(lambda config: max_content(config.max_message_size))
    max_ihave_entries: int = _derived(lambda config: (config.max_message_size - 33 - 3) // 35)

    max_answered: int = field(default=1024, validator=ge(1))
    max_known_data: int = field(default=128, validator=ge(1))
    max_received: int = field(default=100_000, validator=ge(1))
    max_cached: int = field(default=32_768, validator=ge(1))
    max_behind: int = field(default=4096, validator=ge(1))
    max_missing: int = field(default=16_384, validator=ge(1))
    max_missing_per_peer: int = field(default=8192, validator=ge(1))
