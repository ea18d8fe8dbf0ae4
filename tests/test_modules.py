"""
Tests for where the tests of a module are: those of C{dtt/a/b.py} are in C{tests/a/test_b.py}.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import dtt

ROOT = Path(dtt.__file__).parent
TESTS = Path(__file__).parent

#: Modules that only declare something, such as interfaces.
DECLARATIONS = [
    "addresses/interfaces",
    "dht/options",
    "gossip/proto/events",
    "gossip/services",
]

#: Modules with logic that only the tests of other modules test.  A new module does not belong here; one that
#: gets tests of its own leaves.
WITHOUT_TESTS = [
    "interfaces/addresses",
    "interfaces/dht",
    "interfaces/gossip",
    "interfaces/transport",
    "testing/fake_dht",
    "testing/simulate/attackers",
    "testing/simulate/attacks",
    "testing/simulate/driver",
    "testing/simulate/faults",
    "testing/simulate/members",
    "testing/simulate/slots",
    "testing/simulate/swarms",
    "testing/simulate/upstream",
    "testing/storage/nodes",
    "testing/vast/answers",
    "testing/vast/storage",
    "testing/vast/world",
]


class ModulesTests(SynchronousTestCase):
    """
    Each module and its tests.
    """

    def test_every_module_has_tests(self) -> None:
        """
        Every module has a test module with its name, but for fixed lists.
        """
        modules = [path.relative_to(ROOT) for path in ROOT.rglob("[!_]*.py")]
        missing = [
            path.with_suffix("").as_posix()
            for path in modules
            if not (TESTS / path.with_name(f"test_{path.name}")).exists()
        ]
        self.assertEqual(sorted(missing), sorted(DECLARATIONS + WITHOUT_TESTS))
