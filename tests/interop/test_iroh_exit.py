"""
A process with pending iroh calls never crashes at exit (docs/protocol/gossip.md section
14), with any reactor.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.support import NO_IROH

ROOT = Path(__file__).parents[2]


class ExitTests(SynchronousTestCase):
    """
    L{tests.interop.iroh_exit} in separate processes.
    """

    skip = NO_IROH

    def run_process(
        self, way: str, reactor: str = "epoll", number: int | None = None
    ) -> tuple[int, list[str]]:
        """
        Run the process.

        @param number: a signal to send once it is up.
        @return: its exit code and output.
        """
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.interop.iroh_exit", way, reactor],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            # A shell's background jobs ignore SIGINT, and so would this process.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        if number is not None:
            process.send_signal(number)
        try:
            rest, self.errors = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        return process.returncode, [first.strip(), *rest.split("\n")[:-1]]

    def test_reactor_stopped(self) -> None:
        """
        It exits cleanly if the reactor stops, with or without a signal, although the
        transports were not stopped.
        """
        for _ in range(3):
            self.assertEqual(self.run_process("stop"), (0, ["up True"]))
            self.assertEqual(self.run_process("signal", number=signal.SIGTERM), (0, ["up True"]))
            self.assertEqual(self.run_process("signal", number=signal.SIGINT), (0, ["up True"]))

    def test_reactor_crashed(self) -> None:
        """
        It exits cleanly if the reactor ends without its triggers.
        """
        for _ in range(3):
            self.assertEqual(self.run_process("crash"), (0, ["up True"]))
            self.assertEqual(self.errors, "")

    def test_exceptions(self) -> None:
        """
        It exits cleanly after an exception outside the reactor, and with C{sys.exit}.
        """
        for _ in range(3):
            self.assertEqual(self.run_process("raise"), (1, ["up True"]))
            self.assertEqual(self.run_process("sysexit"), (3, ["up True"]))

    def test_fork(self) -> None:
        """
        A forked child that exits first does no harm.
        """
        self.assertEqual(self.run_process("fork"), (0, ["up True", "child 0"]))

    def test_every_reactor(self) -> None:
        """
        It works with each reactor, including asyncio's.
        """
        for reactor in ("select", "poll", "epoll", "asyncio"):
            self.assertEqual(self.run_process("stop", reactor), (0, ["up True"]), reactor)
