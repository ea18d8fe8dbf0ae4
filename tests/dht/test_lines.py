"""
One customer's line has 256 IPv4 addresses or 65536 IPv6 networks: it counts once.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.routing.buckets import K
from dtt.dht.routing.table import RoutingTable
from dtt.dht.server.upload import UPLOAD_BURST_SECONDS, UPLOAD_RATE, AnswerLimits
from dtt.interfaces import Contact
from dtt.krpc.compact import encode_address
from dtt.net.networks import line
from tests.dht.swarm import TARGET, Swarm
from tests.sweeps import sized


class LineTests(SynchronousTestCase):
    """
    What one line can occupy.
    """

    def test_line(self) -> None:
        """
        L{line} is the /24 or the /48 of a public address; in local networks each address
        or /64 counts.
        """
        for host, expected in (
            ("80.1.2.3", "80.1.2"),
            ("10.1.2.3", "10.1.2.3"),
            ("127.0.0.1", "127.0.0.1"),
            ("2001:db8:1:2::3", "2001:db8:1::/48"),
            ("fd00:1:2:3::4", "fd00:1:2:3::/64"),
            ("::1", "::/64"),
        ):
            self.assertEqual(line(host), expected)

    def test_table(self) -> None:
        """
        The nodes of one line, with ids near ours, neither split the bucket that contains
        our own id nor displace others: most of the nearest nodes are others'.
        """
        for seed in range(sized(2, 5)):
            rng = Random(seed)
            own = rng.randbytes(20)
            for theirs, others in (
                (lambda n: f"2001:db8:7:{n:x}::1", lambda n: f"2a00:{n:x}::1"),
                (lambda n: f"80.1.1.{n % 256}", lambda n: f"{20 + n % 50}.{n // 50}.1.1"),
            ):
                table = RoutingTable(own, 0.0)
                honest = [Contact(rng.randbytes(20), others(n), 1) for n in range(1, 300)]
                hostile = [
                    Contact((int.from_bytes(own) ^ rng.getrandbits(160 - n % 160)).to_bytes(20), theirs(n), 1)
                    for n in range(1, 3000)
                ]
                for contact in hostile[:1500]:
                    table.responded(contact, 1.0)
                for contact in honest:
                    table.responded(contact, 2.0)
                for contact in hostile[1500:]:
                    table.responded(contact, 3.0)
                nearest = table.nearest(own, K)
                count = len(set(nearest) & set(hostile))
                self.assertLessEqual(count, 2, f"seed {seed}")
                self.assertLess(len(set(table.contacts()) & set(hostile)), 16, f"seed {seed}")

    def test_lookup(self) -> None:
        """
        A lookup finds the honest nodes although one line has thousands of nodes nearer to
        the target.
        """
        swarm = Swarm(40)
        hostile = [Contact(n.to_bytes(20), f"2001:db8:7:{n:x}::1", 1) for n in range(1, 1000)]
        honest = swarm.near(TARGET, 40)
        swarm.contacts += hostile
        swarm.nodes = lambda contact, target: (
            hostile[:20] if contact in hostile else [*hostile[:4], *swarm.rng.sample(honest, 16)]
        )
        (results,), _ = swarm.run(swarm.lookup(honest[-4:], width=32).start())
        self.assertEqual(len(results), 32)
        self.assertLessEqual(len(set(results) & set(hostile)), 1)

    def test_upload(self) -> None:
        """
        A line can't use up the upload with many addresses, proven or not.
        """
        for proven in (False, True):
            limits = AnswerLimits()
            sent = 0
            for number in range(1000):
                ip = encode_address(f"2001:db8:7:{number:x}::1", 0)[:-2]
                if proven:
                    limits.prove(ip, 1000.0)
                while limits.allows(ip, 1000.0):
                    limits.charge(ip, 200, 1000.0)
                    sent += 200
            self.assertLess(sent, UPLOAD_RATE * UPLOAD_BURST_SECONDS / 2)
            self.assertTrue(limits.allows(encode_address("2a00::1", 0)[:-2], 1000.0))
