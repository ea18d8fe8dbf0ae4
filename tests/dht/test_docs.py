"""
The code in docs/explanation/dht-node.md works as documented.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SkipTest, SynchronousTestCase

import dtt
from tests.dht.network import Network

DOCUMENT = Path(dtt.__file__).parents[1] / "docs" / "explanation" / "dht-node.md"


class DocumentTests(SynchronousTestCase):
    """
    The Python block, run as a program on an in-memory network.
    """

    def test_program(self) -> None:
        """
        The program takes a host and a port, stores and finds everything documented, and
        ends.
        """
        if not DOCUMENT.exists():
            raise SkipTest("the documentation is not installed with the package")
        (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
        network = Network(16)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            started: list[Deferred[None]] = []

            def react(main: Callable[..., Deferred[None]], argv: Iterable[str] = ()) -> None:
                started.append(main(network.udp.reactor("10.0.99.1"), *argv))

            self.patch(task, "react", react)
            self.patch(sys, "argv", ["program.py", "10.0.0.1", str(network.nodes[0].port)])
            exec(compile(code, str(DOCUMENT), "exec"), {"__name__": "__main__"})
            network.result(started[0])
        network.stop()
        lines = out.getvalue().splitlines()
        self.assertEqual(lines[1:3], ["b'5:hello'", "b'version 1' from 8 nodes"])
        self.assertIn("frozenset({('10.0.99.1', 6881)})", lines)
        self.assertTrue(any("b'iiiiiiiiiiiiiiiiiiii'" in line for line in lines))
        self.assertIn("'ipv4_sent_put': ", lines[-1])
