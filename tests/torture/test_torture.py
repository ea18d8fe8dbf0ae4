"""
The short form of what is done to real processes; L{tests.torture.kills} and
L{tests.interop.soak} are run for longer by hand.
"""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path
from random import SystemRandom

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.support import LOOPBACK, NO_LIBTORRENT

if NO_LIBTORRENT is None:
    from tests.torture.kills import torture
    from tests.torture.swarm import Swarm, until

#: Seconds that members have to meet: more than the 30 of a machine with nothing else to do.
MEET = 180.0

#: Seconds of SIGSTOP: longer than a silent connection lives.
STOPPED = 25.0


class TortureTests(SynchronousTestCase):
    """
    Members as processes over libtorrent sessions and dtt nodes.
    """

    skip = NO_LIBTORRENT
    timeout = 300

    def setUp(self) -> None:
        """
        Make a folder.
        """
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)

    def swarm(self, count: int, secret: bytes = b"a secret of the torture") -> Swarm:
        """
        Start members, and wait until they are one swarm.
        """
        swarm = Swarm(self.folder, secret)
        self.addCleanup(swarm.stop)
        for number in range(count):
            swarm.start(f"member{number}")
        self.assertTrue(until(swarm.is_whole, MEET))
        for name in swarm.members:
            swarm.check_identity(name)
        return swarm

    def test_kills(self) -> None:
        """
        Members that are killed at random times come back as who they were, to one swarm.
        """
        seed = SystemRandom().randrange(10**9)
        try:
            torture(self.folder, 8, 3, seed, MEET)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error

    def test_stopped(self) -> None:
        """
        A member that was stopped for a while is a neighbour again.
        """
        swarm = self.swarm(3)
        stopped = swarm.members["member0"]
        peer = swarm.ids["member0"]
        others = [swarm.members[name] for name in ("member1", "member2")]
        stopped.send_signal(signal.SIGSTOP)
        self.assertTrue(
            until(lambda: all(peer not in each.lines()[-1]["neighbors"] for each in others), 4 * STOPPED)
        )
        time.sleep(1.0)
        stopped.send_signal(signal.SIGCONT)
        self.assertTrue(until(swarm.is_whole, MEET))

    def test_port_taken(self) -> None:
        """
        If its UDP port was taken while it was away, a member uses another one, and the old
        one at its next start.
        """
        swarm = self.swarm(2)
        member = swarm.members["member0"]
        port = member.lines()[-1]["port"]
        self.assertEqual(member.end(), 0)
        with socket.socket(type=socket.SOCK_DGRAM) as taker:
            taker.bind((LOOPBACK, port))
            member = swarm.start("member0")
            self.assertNotEqual(member.first()["port"], port)
            swarm.check_identity("member0")
            self.assertTrue(until(swarm.is_whole, MEET))
            self.assertEqual(member.end(), 0)
        self.assertEqual(swarm.start("member0").first()["port"], port)

    def test_disk_full(self) -> None:
        """
        Wherever the disk becomes full, a member reports it in one line or continues, and its
        next start finds a state that loads.
        """
        swarm = self.swarm(1)
        self.assertEqual(swarm.members["member0"].end(), 0)
        for writes in range(6):
            member = swarm.start("member0", "--fail", writes)
            said = member.first()
            if "error" not in said:
                swarm.check_identity("member0")
            member.end()
            log = member.log.read_text()
            self.assertNotIn("Unhandled", log)
            swarm.start("member0")
            swarm.check_identity("member0")
            self.assertEqual(swarm.members["member0"].end(), 0)

    def test_canary(self) -> None:
        """
        The secret is neither in arguments nor in the environment, nor in what is logged at
        the finest level, tracebacks included, nor in a file of the state.
        """
        canary = b"canary-" + SystemRandom().randbytes(12).hex().encode()
        swarm = self.swarm(2, canary)
        for name, member in swarm.members.items():
            process = Path(f"/proc/{member.process.pid}")
            self.assertNotIn(canary, (process / "cmdline").read_bytes())
            self.assertNotIn(canary, (process / "environ").read_bytes())
            self.assertEqual(member.end(), 0)
            log = member.log.read_bytes()
            self.assertIn(b"Traceback", log, "the failing event sink has left no traceback")
            for path in (member.log, member.out, *(self.folder / f"state-{name}").iterdir()):
                content = path.read_bytes()
                self.assertNotIn(canary, content, str(path))
                self.assertNotIn(canary.hex().encode(), content, str(path))
