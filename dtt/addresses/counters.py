"""
Names of the counters of address stores.  Pure.
"""

from __future__ import annotations

import re

_SEPARATORS = re.compile(r"\W+|(?<=[a-z])(?=[A-Z])")


def store_counter(store: str, what: object) -> str:
    """
    Return the name of a counter of one store: C{"<store>: <what>"}, with
    C{what} in snake_case, for example C{"dht: search_timed_out"}.

    @param store: C{dht}, or the URL of a relay.
    @param what: what is counted: C{published}, or an error whose text is a short
        reason.
    """
    return f"{store}: {_SEPARATORS.sub('_', str(what)).strip('_').lower()}"
