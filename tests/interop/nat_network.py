"""
An Internet of network namespaces, and sites on it: machines behind routers with NATs and
firewalls (nftables).

Every namespace ends with this process: a C{cat} keeps it, and ends with its standard
input.  Programs started with L{Namespace.enter} are killed when this process ends.

It requires Linux, root, util-linux, iproute2 and nftables; for delay and loss also
C{/dev/net/tun}.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random
from threading import Timer
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from benchmarks.wan.host import open_tun

#: The number of DHT nodes, and their port.
NODES, NODE_PORT = 24, 6881

#: The UDP port that the NAT of L{EIM} maps, and where it maps it.
INSIDE_PORT, OUTSIDE_PORT = 40001, 50001

#: The kinds of sites.
PUBLIC, NAT, EIM, NATREJ = "public", "nat", "eim", "natrej"
FW, FW6, CGN, SYM = "fw", "fw6", "cgn", "sym"
#: L{SYM} with a router that maps ports on request; the second one speaks no PCP.
SYM_PCP, SYM_NATPMP = "sympcp", "symnatpmp"

KINDS = (PUBLIC, NAT, EIM, NATREJ, FW, FW6, CGN, SYM, SYM_PCP, SYM_NATPMP)

_PROGRAMS = ("unshare", "nsenter", "setpriv", "ip", "nft")

#: The timeout of each of them, in seconds (guess).
_WITHIN = 10.0

#: The largest packet in bytes, the number of packets read in one turn, and the length of a
#: device's queue in packets (guesses).
_LARGEST, _BATCH, _QUEUE = 65535, 64, 1000

_KEEP = """
ip link set lo up &&
echo 1 > /proc/sys/net/ipv4/ip_forward &&
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding &&
echo ready && exec cat
"""

#: What a router lets in from outside.  miniupnpd adds its rules to its own chains.
_FILTER = """
table inet guard {{
    chain input {{
        type filter hook input priority filter; policy accept;
        iifname != "wan" accept
        ct state established,related accept
        meta l4proto {{ tcp, udp }} {refuse}
    }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        iifname != "wan" accept
        ct state established,related accept
        ct status dnat accept
        {refuse}
    }}
}}
"""

_NAT = """
table ip home {{
    chain post {{
        type nat hook postrouting priority srcnat; policy accept;
        {rules}
        oifname "wan" masquerade {flags}
    }}
}}
"""

_PORT_MAPPING = """
table inet filter {
    chain forward { type filter hook forward priority filter; policy accept; jump miniupnpd; }
    chain miniupnpd { }
    chain prerouting { type nat hook prerouting priority dstnat; policy accept; jump prerouting_miniupnpd; }
    chain postrouting { type nat hook postrouting priority 90; policy accept; jump postrouting_miniupnpd; }
    chain prerouting_miniupnpd { }
    chain postrouting_miniupnpd { }
}
"""

#: Refuses PCP as a router that only speaks NAT-PMP and ignores other versions.
_NO_PCP = """
table inet nopcp {
    chain input { type filter hook input priority -10; policy accept; udp dport 5351 @th,64,8 2 drop; }
}
"""

_MINIUPNPD = """
ext_ifname=wan
listening_ip=lan
enable_upnp=yes
secure_mode=yes
system_uptime=yes
uuid=8c4d05bf-3dc4-4f0e-87c5-1d98a495dfd7
upnp_table_name=filter
upnp_nat_table_name=filter
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
"""
_PERMISSIONS = """
allow 1024-65535 0.0.0.0/0 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""


@cache
def missing() -> str | None:
    """
    The reason why sites can't be made here; C{None} if they can.
    """
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in _PROGRAMS:
        if shutil.which(program) is None:
            return f"{program} is not installed (util-linux, iproute2, nftables)"
    try:
        with_rules = Namespace()
        try:
            with_rules.rules(_NAT.format(rules="", flags="") + _FILTER.format(refuse="drop"))
        finally:
            with_rules.close()
    except (OSError, subprocess.SubprocessError) as error:
        return f"routers can't be made here: {getattr(error, 'stderr', '') or error}".strip()
    return None


def no_port_mapping() -> str | None:
    """
    The reason why routers that map ports can't be made here; C{None} if they can.
    """
    return missing() or (None if shutil.which("miniupnpd") else "miniupnpd is not installed")


def no_delay() -> str | None:
    """
    The reason why delay and loss can't be had here; C{None} if they can.
    """
    return missing() or (None if Path("/dev/net/tun").exists() else "there is no /dev/net/tun here")


class Namespace:
    """
    A network namespace that forwards packets.

    @ivar pid: a process in it.
    """

    def __init__(self) -> None:
        """
        @raise OSError: it can't be created.
        """
        self._keeper = subprocess.Popen(
            ["unshare", "-n", "sh", "-c", _KEEP],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # keeps Ctrl-C for this process
        )
        assert self._keeper.stdout is not None
        watchdog = Timer(_WITHIN, self._keeper.kill)
        watchdog.start()
        ready = self._keeper.stdout.readline()
        watchdog.cancel()
        self.pid = self._keeper.pid
        if ready != b"ready\n":
            self.close()
            raise OSError("can't create namespaces here")

    def enter(self, *command: str) -> list[str]:
        """
        The command that runs C{command} in it.
        """
        setpriv = shutil.which("setpriv") or "setpriv"
        return [setpriv, "--pdeathsig", "KILL", "nsenter", "-t", str(self.pid), "-n", "--", *command]

    def run(self, *command: str, text: str = "") -> str:
        """
        Run a program in it.

        @param text: its input.
        @return: its output.
        """
        done = subprocess.run(
            self.enter(*command), input=text, check=True, capture_output=True, text=True, timeout=_WITHIN
        )
        return done.stdout

    def ip(self, *lines: str) -> None:
        """
        Execute commands of the program C{ip}.
        """
        self.run("ip", "-batch", "-", text="".join(f"{line}\n" for line in lines))

    def rules(self, text: str) -> None:
        """
        Add rules of nftables.
        """
        self.run("nft", "-f", "-", text=text)

    def close(self) -> None:
        """
        Let it end with the last process in it.
        """
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.close()
        self._keeper.wait()
        self._keeper.stdout.close()


@frozen(slots=True)
class Weather:
    """
    The conditions on the line between each site and the Internet, in each direction.

    @ivar delay: seconds.
    @ivar loss: the share of packets lost.
    """

    delay: float = 0.0
    loss: float = 0.0

    @property
    def is_fine(self) -> bool:
        """
        Whether nothing is delayed or lost.
        """
        return not self.delay and not self.loss


@implementer(IReadDescriptor)
class _Way:
    """
    One direction of a line: reads packets from one TUN device and writes them to another.
    """

    def __init__(self, reactor: Any, weather: Weather, rng: Random, source: int, target: int) -> None:
        self._reactor = reactor
        self._weather = weather
        self._rng = rng
        self._source = source
        self._target = target
        self._is_open = True
        reactor.addReader(self)

    def close(self) -> None:
        """
        Carry nothing any more.
        """
        self._is_open = False
        self._reactor.removeReader(self)

    def fileno(self) -> int:
        """
        The descriptor to read from.
        """
        return self._source

    def logPrefix(self) -> str:
        """
        The prefix for log messages.
        """
        return "line"

    def doRead(self) -> None:
        """
        Read packets from the device.
        """
        with suppress(BlockingIOError):
            for _ in range(_BATCH):
                packet = os.read(self._source, _LARGEST)
                if self._rng.random() >= self._weather.loss:
                    self._reactor.callLater(self._weather.delay, self._arrived, packet)

    def _arrived(self, packet: bytes) -> None:
        if self._is_open:
            with suppress(OSError):  # its queue is full
                os.write(self._target, packet)

    def connectionLost(self, reason: Failure) -> None:
        """
        Do nothing.
        """


class Site:
    """
    A place on the Internet with one machine.

    @ivar number: 1 to 250; its public networks are 61.NUMBER.7.0/24, 61.NUMBER.8.0/24
        and 2a02:NUMBER::/32.
    @ivar kind: one of L{KINDS}.
    @ivar machine: the machine.
    @ivar router: the router that has the public address; it may be the machine.
    @ivar home: the router next to the machine; it may be C{router} or the machine.
    """

    def __init__(self, internet: Internet, number: int, kind: str) -> None:
        self.number = number
        self.kind = kind
        self._internet = internet
        self._namespaces: list[Namespace] = []
        self._closing: list[Callable[[], None]] = []
        try:
            self._build(internet)
        except BaseException:
            self.close()
            raise

    def _namespace(self) -> Namespace:
        namespace = Namespace()
        self._namespaces.append(namespace)
        return namespace

    def _build(self, internet: Internet) -> None:
        self.router = self.home = self.machine = self._namespace()
        self._closing.append(internet.connect(self.router, self.number))
        n = self.number
        if self.kind == FW6:
            self.router.ip(f"address add 2a02:{n}::1/64 dev wan nodad", f"route add default via 2a02:{n}::fe")
            self._add_lan(f"2a02:{n}:1::1", f"2a02:{n}:1::2", 64)
            self.home.rules(_FILTER.format(refuse="drop"))
            return
        self.set_public(1)
        if self.kind == PUBLIC:
            return
        if self.kind == CGN:
            self._add_lan(f"100.64.{n}.1", f"100.64.{n}.2", 24)
            self.router.rules(_NAT.format(rules="", flags="") + _FILTER.format(refuse="drop"))
            # The machine so far becomes the home's router.
            self.home = self.machine
            self.home.ip("link set eth0 down", "link set eth0 name wan", "link set wan up")
            self.home.ip(f"route replace default via 100.64.{n}.1")
        if self.kind == FW:
            self._add_lan(f"61.{n}.8.1", f"61.{n}.8.2", 24)
        else:
            # The same addresses in every home, as in life.
            self._add_lan("192.168.1.1", "192.168.1.2", 24)
            self.home.rules(self._nat_rules())
        self.home.rules(_FILTER.format(refuse="reject" if self.kind == NATREJ else "drop"))
        if self.kind in (SYM_PCP, SYM_NATPMP):
            self.home.rules(_PORT_MAPPING)
        if self.kind == SYM_NATPMP:
            self.home.rules(_NO_PCP)

    def _nat_rules(self) -> str:
        rules = ""
        if self.kind == EIM:
            target = f"61.{self.number}.7.1:{OUTSIDE_PORT}"
            rules = f'oifname "wan" udp sport {INSIDE_PORT} snat to {target}'
        is_symmetric = self.kind in (SYM, SYM_PCP, SYM_NATPMP)
        return _NAT.format(rules=rules, flags="fully-random" if is_symmetric else "")

    def _add_lan(self, gateway: str, address: str, bits: int) -> None:
        """
        Put a new machine behind the machine so far, which becomes a router.
        """
        home, machine = self.machine, self._namespace()
        nodad = " nodad" if ":" in gateway else ""
        home.ip(
            f"link add lan type veth peer name eth0 netns {machine.pid}",
            f"address add {gateway}/{bits} dev lan{nodad}",
            "link set lan up",
        )
        machine.ip(
            f"address add {address}/{bits} dev eth0{nodad}",
            "link set eth0 up",
            f"route add default via {gateway}",
        )
        self.home, self.machine = home, machine

    @property
    def public(self) -> str:
        """
        The public address, an IP literal.
        """
        return self._public

    def set_public(self, last: int) -> None:
        """
        Give the router the public IPv4 address 61.NUMBER.7.LAST instead of what it had.
        What its NAT has mapped is lost.
        """
        n = self.number
        self._public = f"61.{n}.7.{last}"
        self.router.ip(
            "address flush dev wan scope global",
            f"address add {self._public}/24 dev wan",
            f"route replace default via 61.{n}.7.254",
        )

    def miniupnpd(self, folder: Path, *settings: str) -> list[str]:
        """
        The command that runs the daemon on the home's router.

        @param folder: the folder for its configuration.
        @param settings: further lines of its configuration.
        """
        configuration = folder / f"miniupnpd-{self.number}.conf"
        configuration.write_text("\n".join([_MINIUPNPD.strip(), *settings, _PERMISSIONS]))
        daemon = shutil.which("miniupnpd") or "miniupnpd"
        pid_file = folder / f"miniupnpd-{self.number}.pid"
        return self.home.enter(daemon, "-d", "-f", str(configuration), "-P", str(pid_file))

    def close(self) -> None:
        """
        Remove it.
        """
        for close in self._closing:
            close()
        for namespace in reversed(self._namespaces):
            namespace.close()
        self._closing.clear()
        self._namespaces.clear()
        self._internet.closed(self.number)


class Internet:
    """
    The namespace that connects all sites, and that has the addresses of the DHT nodes.

    @ivar namespace: the namespace.
    """

    def __init__(self, reactor: Any, weather: Weather, seed: int = 1) -> None:
        self._reactor = reactor
        self._weather = weather
        self._rng = Random(seed)
        # Those of closed sites come last, so that the DHT has forgotten who was there.
        self._numbers = deque(range(1, 251))
        self.namespace = Namespace()
        lines = []
        for four, six in node_addresses():
            lines += [f"address add {four}/32 dev lo", f"address add {six}/128 dev lo nodad"]
        self.namespace.ip(*lines)

    def site(self, kind: str) -> Site:
        """
        Return a new site; there can be 250 at a time.

        @param kind: one of L{KINDS}.
        """
        return Site(self, self._numbers.popleft(), kind)

    def closed(self, number: int) -> None:
        """
        A site was closed: its number is free.
        """
        self._numbers.append(number)

    def connect(self, router: Namespace, number: int) -> Callable[[], None]:
        """
        Make the line between a router (C{wan}) and the Internet.

        @return: ends it.
        """
        here = f"site{number}"
        end = self._veth(router, here) if self._weather.is_fine else self._tun(router, here)
        self.namespace.ip(
            f"address add 61.{number}.7.254/24 dev {here}",
            f"address add 2a02:{number}::fe/64 dev {here} nodad",
            f"link set {here} up",
            f"route add 61.{number}.8.0/24 via 61.{number}.7.1 dev {here} onlink",
            f"route add 2a02:{number}:1::/64 via 2a02:{number}::1 dev {here} onlink",
        )
        router.ip("link set wan up")
        return end

    def _veth(self, router: Namespace, here: str) -> Callable[[], None]:
        self.namespace.ip(f"link add {here} type veth peer name wan netns {router.pid}")
        return lambda: self.namespace.ip(f"link delete {here}")

    def _tun(self, router: Namespace, here: str) -> Callable[[], None]:
        ours, theirs = open_tun(self.namespace.pid, here), open_tun(router.pid, "wan")
        ways = [
            _Way(self._reactor, self._weather, self._rng, *ends) for ends in ((ours, theirs), (theirs, ours))
        ]

        def end() -> None:
            for way in ways:
                way.close()
            os.close(ours)
            os.close(theirs)

        self.namespace.ip(f"link set {here} txqueuelen {_QUEUE}")
        router.ip(f"link set wan txqueuelen {_QUEUE}")
        return end

    def close(self) -> None:
        """
        Remove it.
        """
        self.namespace.close()


def node_addresses() -> Sequence[tuple[str, str]]:
    """
    The IPv4 and IPv6 address of each DHT node, each in its own network.
    """
    return [(f"45.{number}.7.1", f"2a01:{number}::1") for number in range(1, NODES + 1)]
