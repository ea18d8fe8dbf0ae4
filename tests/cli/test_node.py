"""
Tests for L{dtt.cli.node}; C{tests.interop} runs the command.
"""

from __future__ import annotations

import subprocess
import sys

from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from dtt.cli.node import NodeOptions, _without_tls


class NodeOptionsTests(SynchronousTestCase):
    """
    L{NodeOptions}.
    """

    def test_options(self) -> None:
        """
        Everything has a default; what is said is taken.
        """
        options = NodeOptions()
        options.parseOptions([])
        self.assertEqual((options["port"], options["bind"], options["bind6"]), (0, "0.0.0.0", None))
        self.assertEqual((options["state-dir"], options["closed"]), (None, 0))
        options = NodeOptions()
        options.parseOptions(
            ["--port", "6881", "--bootstrap", "10.0.0.1:1", "--bootstrap", "[::1]:2", "--closed"]
        )
        self.assertEqual((options["port"], options["closed"]), (6881, 1))
        self.assertEqual(list(options["bootstrap"]), [("10.0.0.1", 1), ("::1", 2)])

    def test_no_address(self) -> None:
        """
        Without any address there is no node.
        """
        options = NodeOptions()
        self.assertRaises(UsageError, options.parseOptions, ["--bind", "none"])

    def test_refused(self) -> None:
        """
        A wrong port, a wrong address, and what is no option are named.
        """
        for arguments, expected in (
            (["--port", "x"], "--port: 'x'"),
            (["--bind", "nowhere"], "--bind: 'nowhere'"),
            (["--bind", "::1"], "--bind: '::1'"),
            (["--bind6", "10.0.0.1"], "--bind6: '10.0.0.1'"),
            (["x"], "unexpected argument 'x'"),
        ):
            error = self.assertRaises(UsageError, NodeOptions().parseOptions, arguments)
            self.assertIn(expected, str(error))


class TLSTests(SynchronousTestCase):
    """
    What is not loaded.
    """

    def test_without_tls(self) -> None:
        """
        OpenSSL can't be imported any more, unless it was before.
        """
        modules = dict(sys.modules)
        self.patch(sys, "modules", modules)
        modules.pop("OpenSSL", None)
        _without_tls()
        self.assertIsNone(modules["OpenSSL"])
        loaded = modules["OpenSSL"] = sys
        _without_tls()
        self.assertIs(modules["OpenSSL"], loaded)

    def test_not_loaded_before(self) -> None:
        """
        Until the command runs, nothing has loaded it.
        """
        words = "import sys, dtt.cli.main, dtt.cli.node; sys.exit('OpenSSL' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", words], check=False, timeout=60)
        self.assertEqual(done.returncode, 0)
