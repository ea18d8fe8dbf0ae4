"""
Values that are made by the thousand a second.

C{frozen} is attrs' own for the type checker, which so finds whoever changes one;
at run time nothing is in the way, since setting attributes past such a guard
takes a frozen class two to three times as long to make (attrs, "Frozen
instances" in "How Does It Work?").  For what the machines take and give.  What
applications get is a tuple with names, which nobody can change.
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
    A message of a topic.

    @ivar content: the bytes that were broadcast.
    @ivar scope: C{"swarm"}, or C{"neighbors"} if it was for direct neighbours only.
    @ivar delivered_from: the peer id of the I{last hop}, not of the author.
    @ivar round: hops that it took so far, as received; 0 straight from its author,
        and for the scope "neighbors".
    """

    content: bytes
    scope: str
    delivered_from: bytes
    round: int = 0

    def __repr__(self) -> str:
        return (
            f"GossipMessage(content=<{len(self.content)} bytes>, scope={self.scope!r},"
            f" delivered_from={self.delivered_from!r}, round={self.round})"
        )
