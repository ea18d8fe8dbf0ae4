"""
What docs/dht.md shows works as shown.
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SkipTest, SynchronousTestCase

import dtt
from tests.dht.network import Network

DOCUMENT = Path(dtt.__file__).parents[1] / "docs" / "dht.md"


class DocumentTests(SynchronousTestCase):
    """
    The Python block, run on a network in memory.
    """

    def test_program(self) -> None:
        """
        The program stores and finds all that it says, and ends.
        """
        if not DOCUMENT.exists():
            raise SkipTest("the documents are not beside an installed package")
        (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
        names: dict[str, Any] = {"__name__": "document"}
        exec(compile(code, str(DOCUMENT), "exec"), names)
        network = Network(16)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            program = names["main"](network.udp.reactor("10.0.99.1"), "10.0.0.1", str(network.nodes[0].port))
            network.result(Deferred.fromCoroutine(program))
        network.stop()
        lines = out.getvalue().splitlines()
        self.assertEqual(lines[1:3], ["b'5:hello'", "b'version 1' from 8 nodes"])
        self.assertIn("frozenset({('10.0.99.1', 6881)})", lines)
        self.assertTrue(any("b'iiiiiiiiiiiiiiiiiiii'" in line for line in lines))
        self.assertIn("'ipv4.sent.put': ", lines[-1])
