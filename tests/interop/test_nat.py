"""
Members behind NATs and firewalls, as L{tests.interop.nat} measures them.  Here a run
fails only after several times its goal: other tests use the machine, too.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SkipTest, TestCase

from tests.interop.nat import ROWS, RUST, Result, run, table, unavailable
from tests.interop.nat_network import Weather, no_delay
from tests.interop.support import NO_INTEROP

#: The number of runs of each row, and of runs at the same time.
RUNS, TOGETHER = 3, 3

#: Seconds for which changes in the large swarm are watched.
WATCHED = 20.0

#: Lines as of a bad mobile network.
NEAR, FAR = Weather(), Weather(delay=0.04, loss=0.1)

_BY_NAME = {row.name: evolve(row, watched=WATCHED) for row in ROWS}
_SWARMS = ("sym-sym-public", "newcomer", "moved")
_MAPPED = ("sympcp-sympcp", "symnatpmp-symnatpmp")
_MANY = "many"
_PAIRS = tuple(name for name in _BY_NAME if name not in (*_SWARMS, *_MAPPED, RUST, _MANY))


class NATTests(TestCase):
    """
    All members find each other.
    """

    timeout = 600

    def measure(self, names: Sequence[str], weather: Weather = NEAR, runs: int = RUNS) -> Deferred[None]:
        """
        All runs of some rows succeed.
        """
        from twisted.internet import reactor

        rows = [_BY_NAME[name] for name in names]
        reasons = [NO_INTEROP, *map(unavailable, rows), None if weather.is_fine else no_delay()]
        if reason := next(filter(None, reasons), None):
            raise SkipTest(reason)

        async def begin() -> None:
            results = [Result(row) for row in rows]
            await run(reactor, results, lambda row: runs, TOGETHER, weather)
            print(f"\n{table(results, weather)}", file=sys.stderr)
            self.assertEqual([failure for result in results for failure in result.failures], [])

        return Deferred.fromCoroutine(begin())

    def test_pairs(self) -> Deferred[None]:
        """
        Two members that start together, behind each kind of NAT and firewall.
        """
        return self.measure(_PAIRS)

    def test_far(self) -> Deferred[None]:
        """
        The same over lines with delay and loss.
        """
        return self.measure(("nat-public", "nat-nat", "cgn-nat", "fw6-fw6"), FAR, 1)

    def test_swarms(self) -> Deferred[None]:
        """
        Members that can't reach each other but both reach a third one; a newcomer to
        members that are all behind NATs; a NAT whose address changes.
        """
        return self.measure(_SWARMS)

    def test_port_mapping(self) -> Deferred[None]:
        """
        Two members whose only way in is a port that the router maps.
        """
        return self.measure(_MAPPED)

    def test_rust(self) -> Deferred[None]:
        """
        A member of the Rust crate hears members behind NATs through the others.
        """
        return self.measure((RUST,), runs=1)

    def test_many(self) -> Deferred[None]:
        """
        30 members, three of which have public addresses.
        """
        return self.measure((_MANY,), runs=1)
