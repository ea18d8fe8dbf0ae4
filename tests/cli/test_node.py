"""
Tests for L{dtt.cli.node}; C{tests.interop} runs the command.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

import dtt
from dtt.cli.node import NodeOptions, _without_tls


class NodeOptionsTests(SynchronousTestCase):
    """
    Tests for L{NodeOptions}.
    """

    def test_options(self) -> None:
        """
        Every option has a default and can be set.
        """
        options = NodeOptions()
        options.parseOptions([])
        self.assertEqual((options["port"], options["bind"], options["bind6"]), (0, "0.0.0.0", "auto"))
        self.assertEqual((options["state-dir"], options["closed"]), (None, 0))
        options = NodeOptions()
        options.parseOptions(
            ["--port", "6881", "--bootstrap", "10.0.0.1:1", "--bootstrap", "[::1]:2", "--closed"]
        )
        self.assertEqual((options["port"], options["closed"]), (6881, 1))
        self.assertEqual(list(options["bootstrap"]), [("10.0.0.1", 1), ("::1", 2)])

    def test_no_address(self) -> None:
        """
        A node without any address is refused.
        """
        options = NodeOptions()
        self.assertRaises(UsageError, options.parseOptions, ["--bind", "none"])

    def test_refused(self) -> None:
        """
        Invalid ports, invalid addresses and unexpected arguments are named.
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
    Tests that TLS is not loaded.
    """

    def test_without_tls(self) -> None:
        """
        OpenSSL can no longer be imported, unless it already was.
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
        OpenSSL is not loaded before the command runs.
        """
        words = "import sys, dtt.cli.main, dtt.cli.node; sys.exit('OpenSSL' in sys.modules)"
        # Where dtt is imported from here, installed or not.
        environ = {**os.environ, "PYTHONPATH": str(Path(dtt.__file__).parents[1])}
        done = subprocess.run([sys.executable, "-c", words], check=False, timeout=60, env=environ)
        self.assertEqual(done.returncode, 0)
