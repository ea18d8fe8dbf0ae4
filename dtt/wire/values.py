"""
C{frozen} for values that are created thousands of times a second.

The type checker sees attrs' own C{frozen} and reports assignments to attributes. At run
time the class is mutable: attrs' guard makes the creation of an instance two to three
times as slow (attrs, "Frozen instances" in "How Does It Work?"). Use it for the input
and output of the protocol state machines. Applications get named tuples instead, which
are immutable at run time too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from attrs import frozen
else:
    from functools import partial

    from attrs import define

    frozen = partial(define, unsafe_hash=True)

__all__ = ["GossipMessage", "frozen"]


class GossipMessage(NamedTuple):
    """
    A message received in a topic.

    @ivar content: the bytes that were broadcast.
    @ivar scope: C{"swarm"}, or C{"neighbors"} if it was sent to direct neighbours only.
    @ivar delivered_from: the 32-byte peer id of the I{last hop}, which need not be the
        author.
    @ivar round: the number of hops so far, as received: 0 directly from the author and
        for the scope C{"neighbors"}.
    """

    content: bytes
    scope: str
    delivered_from: bytes
    round: int = 0

    def __repr__(self) -> str:
        return (
            f"GossipMessage(content=<{len(self.content)} bytes>, scope={self.scope!r},"
            f" delivered_from={self.delivered_from.hex()}, round={self.round})"
        )
