"""
Tests for L{dtt.addresses.signer}.
"""

from __future__ import annotations

import json
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.addresses.pkarr import Packet
from dtt.addresses.signer import SEQ_FILE, LocalPeer, Signer
from dtt.errors import PublishFailed, StateError
from dtt.identity import PeerKey
from dtt.state import StateDirectory
from dtt.wire.addresses import IROH, Address, PeerAddress

KEY = PeerKey.from_seed(b"k" * 32)
NOW = 1_800_000_000.0
A = PeerAddress(IROH, "192.0.2.1", 1)


class SignerTests(SynchronousTestCase):
    """
    L{Signer}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.addresses: tuple[Address, ...] = (A,)
        path = Path(self.mktemp())
        self.state = StateDirectory(path)
        self.file = path / SEQ_FILE

    def signer(self) -> Signer:
        """
        A signer that has read the state.
        """
        signer = Signer(self.clock, LocalPeer(KEY, lambda: self.addresses, self.state))
        signer.load()
        return signer

    def test_content(self) -> None:
        """
        A packet contains the current addresses; without addresses there is none.
        """
        signer = self.signer()
        dns = signer.dns()
        assert dns is not None
        self.assertEqual(signer.packet(dns), Packet(KEY.peer_id, int(NOW * 1e6), dns))
        self.assertEqual(signer.packet(dns).addresses(), (A,))
        self.addresses = ()
        self.assertIsNone(signer.dns())

    def test_increasing(self) -> None:
        """
        Numbers are the time in microseconds, but always higher than the last one.
        """
        signer = self.signer()
        now = int(NOW * 1e6)
        self.assertEqual([signer.packet(b"").seq for _ in range(3)], [now, now + 1, now + 2])
        self.clock.advance(1)
        self.assertEqual(signer.packet(b"").seq, now + 1_000_000)

    def test_above(self) -> None:
        """
        Numbers are higher than those seen in the member's own packets; after the highest
        one there are no more.
        """
        signer = self.signer()
        self.assertEqual(signer.packet(b"", above=2**62).seq, 2**62 + 1)
        self.assertEqual(signer.packet(b"").seq, 2**62 + 2)
        self.assertEqual(signer.packet(b"", above=2**63 - 2).seq, 2**63 - 1)
        self.assertRaises(PublishFailed, signer.packet, b"")
        self.assertRaises(PublishFailed, signer.packet, b"", 2**63 - 1)

    def test_restart(self) -> None:
        """
        After a restart with a clock that was set back, the numbers continue.
        """
        last = self.signer().packet(b"").seq
        self.clock = Clock()
        self.assertEqual(self.signer().packet(b"").seq, last + 1)
        self.assertEqual(json.loads(self.file.read_text("ascii")), {"version": 1, "seq": last + 1})

    def test_written_before_it_is_used(self) -> None:
        """
        The number is on disk before the packet is returned.
        """
        self.assertEqual(self.signer().packet(b"").seq, json.loads(self.file.read_text("ascii"))["seq"])

    def test_unusable_files(self) -> None:
        """
        A damaged file, or one with other contents, is moved aside.
        """
        for content in ("{", '{"version": 2, "seq": 5}', '{"version": 1, "seq": -1}', '{"version": 1}'):
            self.file.write_text(content, "ascii")
            self.assertEqual(self.signer().last_seq, 0)
        self.file.write_text('{"version": 1, "seq": 5}', "ascii")
        self.assertEqual(self.signer().last_seq, 5)

    def test_disk_full(self) -> None:
        """
        If the number can't be written, signing continues with the number in memory.
        """

        def write_json(name: str, value: object) -> None:
            raise StateError("no space left")

        signer = self.signer()
        self.patch(self.state, "write_json", write_json)
        self.assertEqual([signer.packet(b"").seq - int(NOW * 1e6) for _ in range(2)], [0, 1])

    def test_without_state(self) -> None:
        """
        Without a state directory nothing is written.
        """
        signer = Signer(self.clock, LocalPeer(KEY, lambda: self.addresses, None))
        signer.load()
        signer.packet(b"")
        self.assertFalse(self.file.exists())
