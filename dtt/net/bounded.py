"""
Tables of a bounded size. Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import Any, Final

#: The most expired entries removed when one is added.
SWEEP: Final = 8


def make_room(table: OrderedDict[Any, float], over: float, most: int) -> None:
    """
    Make room for one more entry in a table ordered from oldest to newest.

    Of the oldest L{SWEEP} entries, those with a value of at most C{over} are removed:
    removing a few each time spreads the work, which would otherwise delay one caller by
    thousands of removals. If C{most} entries are still left, the oldest is evicted.

    C{table} must be an C{OrderedDict}: to find its first
    entry, a plain dictionary scans over all removed ones, up to a tenth of a
    millisecond with some thousands.

    @param table: maps keys to numbers, for instance expiry times.
    @param over: entries with this number or a lower one are expired.
    @param most: the capacity of the table.
    """
    old = [key for key, number in islice(table.items(), SWEEP) if number <= over]
    for key in old:
        del table[key]
    if len(table) >= most:
        table.popitem(last=False)
