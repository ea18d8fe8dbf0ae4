"""
Tests for the number of parameters of constructors.
"""

from __future__ import annotations

import ast

from twisted.trial.unittest import SynchronousTestCase

from tests.test_layers import modules

#: The most parameters of a constructor; what belongs together is one object.
MOST = 6

#: Public classes whose parameters are options, given by keyword.
WITH_OPTIONS = {"DHTNode", "NAT", "VastDHT"}


class ConstructorTests(SynchronousTestCase):
    """
    Each class.
    """

    def test_few_parameters(self) -> None:
        """
        A constructor has at most six parameters, or they are options of a public class.
        """
        longer = set()
        for _, tree in modules():
            for node in ast.walk(tree):
                if not isinstance(node, ast.ClassDef):
                    continue
                for function in node.body:
                    if isinstance(function, ast.FunctionDef) and function.name == "__init__":
                        arguments = function.args
                        number = len(arguments.posonlyargs + arguments.args + arguments.kwonlyargs) - 1
                        if number > MOST:
                            longer.add(node.name)
        self.assertEqual(longer, WITH_OPTIONS)
