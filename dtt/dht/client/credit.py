"""
The credibility of nodes: whether the nodes that they named in earlier lookups existed.  Pure.

Rules: for each network (/24; IPv6: /48), we count how many of the nodes that its nodes named have answered,
and how many have not.  Once most have been silent, only few of the nodes that it names are queried, until one
answers: hostile nodes that name nodes that do not exist cost only a few queries in each lookup.  The counts
are halved from time to time, so old observations lose weight.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from dtt.dht.client.shortlist import MAX_SILENT, SILENT_SHARE
from dtt.interfaces import Contact
from dtt.net.networks import is_loopback, line

#: How many nodes are learned from one response of a node that is not trusted. Guess.
PROBATION: Final = 2

#: The most networks remembered, and the count at which the counts of one are halved.
#: Guesses: the nodes of some hundred lookups; of the latest ten responses.
MAX_NETWORKS: Final = 2048
ENOUGH: Final = 64


class Credit:
    """
    The credit of the nodes of one address family.
    """

    def __init__(self, closed: bool) -> None:
        """
        @param closed: many nodes share an IP address, so that each counts by itself.
        """
        self._closed = closed
        # Nodes that answered and that did not, least recently judged first.
        self._counts: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts)

    def trusts(self, contact: Contact) -> bool:
        """
        Return whether the nodes that C{contact} names usually exist.
        """
        answers, silences = self._counts.get(self._key(contact), (0, 0))
        return silences < MAX_SILENT or silences <= SILENT_SHARE * answers

    def judge(self, contact: Contact, answers: int, silences: int) -> None:
        """
        Add what a lookup has found out.

        @param answers: the number of nodes named by C{contact} that have answered.
        @param silences: the number of those that have not.
        """
        key = self._key(contact)
        before = self._counts.pop(key, (0, 0))
        answers, silences = answers + before[0], silences + before[1]
        if answers + silences > ENOUGH:
            answers, silences = answers // 2, silences // 2
        if len(self._counts) >= MAX_NETWORKS:
            self._counts.popitem(last=False)
        self._counts[key] = answers, silences

    def _key(self, contact: Contact) -> str:
        if self._closed or is_loopback(contact.host):
            return f"{contact.host} {contact.port}"
        return line(contact.host)
