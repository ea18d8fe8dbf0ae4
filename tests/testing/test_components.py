"""
Tests for L{dtt.testing.components}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.testing.components import components


class ComponentsTests(SynchronousTestCase):
    """
    Tests for L{components}.
    """

    def test_parts(self) -> None:
        """Links connect in both directions; each node is in one component, alone if need be."""
        links = {1: [2], 2: [], 3: [2], 4: [5], 5: [4], 6: []}
        self.assertEqual(sorted(map(sorted, components(links))), [[1, 2, 3], [4, 5], [6]])

    def test_joined_late(self) -> None:
        """A node that links several components makes them one."""
        links = {1: [2], 2: [1], 3: [4], 4: [3], 5: [1, 3]}
        self.assertEqual(components(links), [{1, 2, 3, 4, 5}])

    def test_strangers(self) -> None:
        """Nodes of which only others speak are none."""
        self.assertEqual(components({1: [9], 2: [9]}), [{1}, {2}])
        self.assertEqual(components({}), [])
