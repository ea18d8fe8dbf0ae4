"""
State on disk survives kill -9 at any time.
"""

from __future__ import annotations

import os
import sys
from random import SystemRandom

from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.interop.support import NO_INTEROP


class TortureTests(TestCase):
    """
    Real processes that are killed.
    """

    skip = NO_INTEROP
    timeout = 120

    async def _torture(self) -> None:
        seed = SystemRandom().randrange(10**9)
        arguments = ["-m", "tests.interop.torture", self.mktemp(), "200", str(seed)]
        output, errors, code = await getProcessOutputAndValue(
            sys.executable, arguments, os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        )
        self.assertEqual(code, 0, f"seed {seed}: {errors.decode()}")
        self.assertGreater(int(output), 200, f"seed {seed}: the writers hardly wrote")

    def test_200_kills(self) -> Deferred[None]:
        """
        A writer is killed 200 times; each time the file contains one complete write,
        never an older one than before.
        """
        return Deferred.fromCoroutine(self._torture())
