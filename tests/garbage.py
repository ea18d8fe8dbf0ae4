"""
Tests with the garbage collector.
"""

import gc

from twisted.trial.unittest import SynchronousTestCase


def ignore_older_objects(test: SynchronousTestCase) -> None:
    """
    Hide all objects that exist by now from the garbage collector, until the end of the test:
    other tests have left many, and to collect among them would take a second.
    """
    gc.freeze()
    test.addCleanup(gc.unfreeze)
