"""
Tables of a bounded size.  Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import Any, Final

#: Entries without a use that are removed when one is added.
SWEEP: Final = 8


def make_room(table: OrderedDict[Any, float], over: float, most: int) -> None:
    """
    Room for one more entry in a table with the oldest first: of those whose
    number is C{over} or less a few are removed, so that none has to wait until
    thousands are; of C{most} that are not, the oldest is.  A plain dictionary
    has to step over all that were removed to find its first entry, a tenth of
    a millisecond at worst with some thousands.
    """
    old = [key for key, number in islice(table.items(), SWEEP) if number <= over]
    for key in old:
        del table[key]
    if len(table) >= most:
        table.popitem(last=False)
