"""
Tests for L{dtt.tracker.leaving}.
"""

from __future__ import annotations

import gc

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.tracker.leaving import LeavableService
from tests.garbage import ignore_older_objects


class Leavable(LeavableService):
    """
    Stops when the test says so.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stopped: list[Deferred[None]] = []

    def stopService(self) -> Deferred[None]:
        """Stop."""
        super().stopService()
        self.stopped.append(Deferred())
        return self.stopped[-1]


class LeavingTests(SynchronousTestCase):
    """
    Tests for L{LeavableService}.
    """

    def setUp(self) -> None:
        self.parent = MultiService()
        self.service = Leavable()
        self.service.setServiceParent(self.parent)

    def test_running(self) -> None:
        """
        Leaving stops the service, and fires when it has stopped.
        """
        self.parent.startService()
        left = self.service.leave()
        self.assertEqual((self.service.parent, self.service.running), (None, 0))
        self.assertNoResult(left)
        self.service.stopped[0].callback(None)
        self.assertIsNone(self.successResultOf(left))

    def test_before_start(self) -> None:
        """
        A service that has not started is stopped, too, and does not start with its parent.
        """
        left = self.service.leave()
        self.parent.startService()
        self.assertFalse(self.service.running)
        self.service.stopped[0].callback(None)
        self.successResultOf(left)

    def test_without_parent(self) -> None:
        """
        One that never had a parent can be left.
        """
        service = Leavable()
        left = service.leave()
        service.stopped[0].callback(None)
        self.successResultOf(left)

    def test_again(self) -> None:
        """
        It stops once, however often it is left; each call fires, the last one at once.
        """
        self.parent.startService()
        left = [self.service.leave(), self.service.leave()]
        self.service.stopped[0].callback(None)
        left.append(self.service.leave())
        self.assertEqual([self.successResultOf(each) for each in left], [None] * 3)
        self.assertEqual(len(self.service.stopped), 1)

    def test_cancelled(self) -> None:
        """
        Who cancels waits no longer; the others do.
        """
        self.parent.startService()
        impatient, patient = self.service.leave(), self.service.leave()
        impatient.cancel()
        self.failureResultOf(impatient)
        self.assertNoResult(patient)
        self.service.stopped[0].callback(None)
        self.successResultOf(patient)

    def test_failure(self) -> None:
        """
        A failure while stopping is logged; nobody waits for ever because of it.
        """
        ignore_older_objects(self)
        self.parent.startService()
        left = self.service.leave()
        self.service.stopped[0].errback(ZeroDivisionError())
        self.successResultOf(left)
        self.successResultOf(self.service.leave())
        del self.service, self.parent, left
        gc.collect()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
