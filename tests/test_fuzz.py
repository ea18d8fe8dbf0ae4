"""
Runs the fuzzer briefly; C{python -m tests.fuzz} runs it for longer.
"""

from __future__ import annotations

from random import SystemRandom

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz import Fuzzer
from tests.sweeps import EXPLORE, sized


class FuzzTests(SynchronousTestCase):
    """
    Feeds some thousand hostile datagrams, others each time if it is to be thorough.
    """

    def test_node(self) -> None:
        """
        Nothing is raised, nothing is sent for undecodable datagrams, and some datagrams of
        each kind are accepted.
        """
        seed = SystemRandom().randrange(10**9) if EXPLORE else 1
        fuzzer = Fuzzer(seed)
        try:
            for _ in range(sized(1000, 5000)):
                fuzzer.step()
            fuzzer.finish()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        for target in fuzzer.targets:
            self.assertGreaterEqual(set(target.kinds), {"Query", "Response", "undecodable"}, f"seed {seed}")
            self.assertGreater(target.node.statistics()["ipv4_responses"], 0, f"seed {seed}")
        self.assertGreater(sum(target.ended.total() for target in fuzzer.targets), 0, f"seed {seed}")
        self.assertGreater(fuzzer.targets[0].node.responder.counters["stored"], 0, f"seed {seed}")
