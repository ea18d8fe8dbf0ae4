"""
Names of counters.  Pure.

Rules: a counter is named C{noun_reason} in snake_case, for example
C{dropped_bad_transaction} or C{closed_slow_reader}.  Those of address stores begin with
the store instead: C{"dht: search_timed_out"}.
"""

from __future__ import annotations

import re
from functools import lru_cache

_SEPARATORS = re.compile(r"\W+|(?<=[a-z])(?=[A-Z])")


@lru_cache(maxsize=256)
def snake_case(reason: str) -> str:
    """
    Return C{reason} as part of a counter's name: C{bencode_bad_length} for C{"bencode:
    bad length"}, C{connection_lost} for C{"ConnectionLost"}.

    @param reason: a short phrase, or the name of an exception.  Both come from a fixed
        set, so that the number of counters is bounded.
    """
    return _SEPARATORS.sub("_", reason).strip("_").lower()
