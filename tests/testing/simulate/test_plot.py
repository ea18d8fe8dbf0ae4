"""
Tests for L{dtt.testing.simulate.plot}.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dtt.testing.simulate.plot import plot, steps
from tests.testing.simulate.test_results import RESULT


class PlotTests(SynchronousTestCase):
    """
    Tests for L{steps} and L{plot}.
    """

    def test_steps(self) -> None:
        """The plotted line rises with each member that has joined."""
        x, y = steps([RESULT], 10.0)
        self.assertEqual(x, [0.0, 1.5, 2.5, 10.0])
        self.assertEqual([round(share, 2) for share in y], [0.0, 0.33, 0.67, 0.67])

    def test_cut(self) -> None:
        """Who joined after the last second, or never, counts in the share; without joins the line is flat."""
        x, y = steps([RESULT, RESULT], 2.0)
        self.assertEqual((x, y[-1]), ([0.0, 1.5, 1.5, 2.0], 2 / 6))
        self.assertEqual(steps([], 5.0), ([0.0, 5.0], [0.0, 0.0]))

    def test_plot(self) -> None:
        """A plot is a file of the wanted type."""
        for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
            path = Path(self.mktemp()).with_suffix(suffix)
            plot(path, "a title", {"dtt": [RESULT], "upstream": [RESULT]}, 10.0)
            self.assertTrue(path.read_bytes().startswith(start))

    if find_spec("matplotlib") is None:
        test_plot.skip = "the extra is not installed (pip install 'distributed-topic-tracker[sim]')"  # type: ignore[attr-defined]
