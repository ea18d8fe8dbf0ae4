"""
Tests that the tests in docs/how-to/testing.md pass, and that each fails if the application has
the mistake that it looks for.
"""

from __future__ import annotations

import re
from typing import Any
from unittest import TestCase, TestResult

from twisted.trial.unittest import SynchronousTestCase

from tests.sweeps import sized
from tests.test_docs import page

#: Mistakes in the application: what is replaced, by what, and which test finds it.
MISTAKES = {
    "sends equal contents": (
        'f"{self._me} {choice}".encode()',
        "choice.encode()",
        "SwarmTests",
    ),
    "takes the last hop for the author": (
        "self.votes[voter] = choice",
        "self.votes[message.delivered_from.hex()] = choice",
        "SwarmTests",
    ),
    "believes that contents are well-formed": (
        "except ValueError:",
        "except ZeroDivisionError:",
        "PollTests",
    ),
    "does not send": (
        'return self._topic.broadcast(f"{self._me} {choice}".encode())',
        "return None",
        "PollTests",
    ),
    "votes too early": (
        "topic.subscribe(self)",
        'topic.subscribe(self); self.vote("yes"); self.vote = lambda choice: None',
        "SwarmTests",
    ),
}


def shown() -> tuple[str, dict[str, str]]:
    """
    Return the application, and its tests by class.
    """
    application, *tests = re.findall(r"```python\n(.*?)```", page("how-to/testing.md"), re.DOTALL)[:3]
    return application, {re.findall(r"class (\w+)", test)[0]: test for test in tests}


class ShownTests(SynchronousTestCase):
    """
    The application of the page and its tests.
    """

    def run_test(self, application: str, test: str) -> TestResult:
        """
        Run the tests of a block.
        """
        names: dict[str, Any] = {"__name__": "shown"}
        exec(compile(application, "application", "exec"), names)
        exec(compile(test, "test", "exec"), names)
        (case,) = (
            value
            for value in names.values()
            if isinstance(value, type) and issubclass(value, TestCase) and value.__module__ == "shown"
        )
        (method,) = (name for name in vars(case) if name.startswith("test_"))
        result = TestResult()
        case(method).run(result)
        self.assertEqual(result.testsRun, 1)
        return result

    def test_pass(self) -> None:
        """
        Each test passes as shown.
        """
        application, tests = shown()
        self.assertEqual(len(tests), 2)
        for name, test in tests.items():
            result = self.run_test(application, test)
            self.assertEqual((result.errors, result.failures), ([], []), name)

    def test_find_mistakes(self) -> None:
        """
        Each mistake lets the test fail that is said to find it; one is tried if the test is to
        be quick.
        """
        application, tests = shown()
        for mistake, (right, wrong, finder) in [*MISTAKES.items()][sized(2, 0) :: sized(3, 1)]:
            self.assertEqual(application.count(right), 1, mistake)
            result = self.run_test(application.replace(right, wrong), tests[finder])
            self.assertFalse(result.wasSuccessful(), mistake)
