"""
Tests for L{dtt.portmap.gateway}.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dtt.portmap import gateway
from dtt.portmap.gateway import find_gateway, parse_routes

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
DEFAULT = "eth0\t00000000\tFE00000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"


class RoutesTests(SynchronousTestCase):
    """
    Tests for L{parse_routes}.
    """

    def test_lowest_metric(self) -> None:
        """
        The default route with the lowest metric counts.
        """
        wlan = "wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
        local = "eth0\t0000000A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"
        self.assertEqual(parse_routes(HEAD + wlan + DEFAULT + local), "10.0.0.254")

    def test_none(self) -> None:
        """
        A route to some network, one without a gateway, and one over a link to another machine are not
        default routes.
        """
        for line in (
            "",
            "eth0\t0000000A\tFE00000A\t0003\t0\t0\t0\t000000FF\n",
            "eth0\t00000000\tFE00000A\t0003\t0\t0\t0\t00000080\n",  # half of the default route of a VPN
            "eth0\t00000000\tFE00000A\t0001\t0\t0\t0\t00000000\n",
            "ppp0\t00000000\t00000000\t0003\t0\t0\t0\t00000000\n",
        ):
            self.assertIsNone(parse_routes(HEAD + line), line)

    def test_garbage(self) -> None:
        """
        Lines that can't be read are skipped.
        """
        for line in (
            "garbage\n",
            "x\ty\tz\t1\t1\t1\t1\t1\n",
            "eth0\t00000000\t1FE00000A\t0003\t0\t0\t0\t00000000\n",
            "eth0\t00000000\t-1\t0003\t0\t0\t0\t00000000\n",
        ):
            self.assertIsNone(parse_routes(HEAD + line), line)
            self.assertEqual(parse_routes(HEAD + line + DEFAULT), "10.0.0.254")
        self.assertIsNone(parse_routes(""))


class FindGatewayTests(SynchronousTestCase):
    """
    Tests for L{find_gateway}.
    """

    def setUp(self) -> None:
        self.routes = Path(self.mktemp())
        self.patch(gateway, "ROUTES", self.routes)

    def test_listed(self) -> None:
        """
        The router that the system lists is returned, whatever our address is.
        """
        self.routes.write_text(HEAD + DEFAULT)
        for local in ("192.168.1.7", None):
            self.assertEqual(find_gateway(local), "10.0.0.254")

    def test_guessed(self) -> None:
        """
        Without a list, and without a default route, the first address of our own network is returned.
        """
        self.assertEqual(find_gateway("192.168.1.7"), "192.168.1.1")
        self.routes.write_text(HEAD)
        self.assertEqual(find_gateway("192.168.1.255"), "192.168.1.1")

    def test_none(self) -> None:
        """
        Without an address there is nothing to guess; we are not our own router.
        """
        self.assertIsNone(find_gateway(None))
        self.assertIsNone(find_gateway("192.168.1.1"))
