"""
The sizes of tests that sweep seeds or samples.
"""

from __future__ import annotations

import os
from typing import Any, TypeVar

T = TypeVar("T")

#: Whether to test thoroughly: C{DTT_EXPLORE} is set.
EXPLORE = bool(os.environ.get("DTT_EXPLORE"))


def sized(quick: int, thorough: int) -> int:
    """
    Return how many seeds or samples to test: C{quick}, or C{thorough} with C{DTT_EXPLORE}
    in the environment.  The former keeps the whole suite at about a minute, the latter is
    for what a change in this area should be tried with, and for C{.ci/run}.
    """
    return thorough if EXPLORE else quick


def thorough(test: T) -> T:
    """
    Mark a test, or a class of tests, that takes long: it runs only where a thorough test is
    wanted, see L{sized}.  Otherwise its C{setUp} does not run either.
    """
    if not EXPLORE:
        marked: Any = test
        marked.skip = "it takes long: set DTT_EXPLORE=1 to run it"
    return test
