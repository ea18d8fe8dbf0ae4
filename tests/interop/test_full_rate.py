"""
Contents as fast as they go, for seconds: whoever falls behind loses nothing.
"""

from __future__ import annotations

from importlib.util import find_spec

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.gossip_trio import Trio
from tests.interop.support import NO_INTEROP

#: Small ones are the most a second.  More than a member remembers the ids of, and
#: four times what its neighbours keep for it.
COUNT, SIZE = 130_000, 100


class FullRateTests(SynchronousTestCase):
    """
    Three members on fewer processors than they could use.
    """

    if NO_INTEROP:
        skip = NO_INTEROP

    def at_full_rate(self, transport: str) -> None:
        """Both listeners get each content once, though one of them may get it by the other."""
        with Trio(transport) as trio:
            trio.spread(500, SIZE, "warm-up")
            self.assertEqual(trio.spread(COUNT, SIZE, "many", quiet=20.0).lost, 0)

    def test_streams(self) -> None:
        """Over streams."""
        self.at_full_rate("streams")

    def test_iroh(self) -> None:
        """Over iroh."""
        self.at_full_rate("iroh")

    if find_spec("iroh") is None:
        test_iroh.skip = "the extra is not installed (pip install 'dtt[iroh]')"  # type: ignore[attr-defined]
