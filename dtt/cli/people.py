"""
The members that a chat has heard of, for C{/who}.  Pure.

Rules: all of this is claimed by others.  An id is shown beside each name, so nobody can impersonate another
member by using the same name.  At most L{MAX_PEOPLE} are remembered.
"""

from __future__ import annotations

from attrs import define

#: The maximum number of members that are remembered, the most recent ones (guess).
MAX_PEOPLE = 1000

#: The maximum length of a nickname in characters (guess).
MAX_NICK = 24


@define(slots=True)
class Person:
    """
    A member.

    @ivar nick: its nickname; empty: none.
    @ivar heard: when it was last heard of, seconds.
    @ivar how: how, for example C{"wrote"}.
    """

    nick: str
    heard: float
    how: str


def ago(seconds: float) -> str:
    """
    Return a time span as text, for example C{"5 min ago"}.
    """
    if seconds < 60:
        return "now" if seconds < 5 else f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 5400 else f"{seconds / 3600:.0f} h ago"


class People:
    """
    The members that a chat has heard of.
    """

    def __init__(self) -> None:
        # By peer id in hex, the most recent one at the end.
        self._people: dict[str, Person] = {}

    def heard(self, peer_id: str, now: float, how: str, nick: str | None = None) -> None:
        """
        Note that a member was heard of.

        @param peer_id: its claimed id in hex.
        @param now: seconds.
        @param how: how, for example C{"wrote"}.
        @param nick: its nickname; C{None}: unknown.
        """
        before = self._people.pop(peer_id, None)
        name = nick if nick is not None else before.nick if before is not None else ""
        self._people[peer_id] = Person(name[:MAX_NICK], now, how)
        if len(self._people) > MAX_PEOPLE:
            del self._people[next(iter(self._people))]

    def name(self, peer_id: str) -> str:
        """
        Return how a member is shown: its nickname, if any, and the first digits of its
        id.

        @param peer_id: its id in hex.
        """
        person = self._people.get(peer_id)
        short = peer_id[:10]
        return f"{person.nick} {short}" if person is not None and person.nick else short

    def lines(self, now: float, neighbors: frozenset[str]) -> list[str]:
        """
        Return a line for each member: direct neighbours first, then the most recent first.

        @param now: seconds.
        @param neighbors: the ids of the direct neighbours in hex.
        """
        found = [(peer in neighbors, each.heard, peer) for peer, each in self._people.items()]
        found += [(True, now, peer) for peer in sorted(neighbors - self._people.keys())]
        lines = []
        for near, _, peer in sorted(found, reverse=True):
            person = self._people.get(peer)
            how = "" if person is None else f"{person.how} {ago(now - person.heard)}"
            parts = [self.name(peer), "direct neighbour" if near else "", how]
            lines.append(", ".join(part for part in parts if part))
        return lines
