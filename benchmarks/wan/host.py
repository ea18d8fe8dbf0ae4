"""
Hosts of an Internet that is a program of ours.

A L{Host} is a network namespace and a mount namespace.  All that it sends leaves
through a TUN device, whose other end is a file descriptor in this process: what
is read from it are the IP packets that the host sends, and what is written to
it the host receives (see L{benchmarks.wan.carrier}).  Nothing in it reaches the
machine's own network.  It may have a hosts file of its own, for programs whose
bootstrap nodes have fixed names.

A host lasts as long as this process, or until L{Host.close}: a C{cat} keeps its
namespaces, and ends with its standard input.  What L{Host.enter} runs is killed
when this process ends, however that happens.

It needs Linux, root, C{/dev/net/tun}, util-linux and iproute2.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Timer

#: Programs that are run here.
_PROGRAMS = ("unshare", "nsenter", "setpriv", "mount", "ip")

#: Seconds that each of them may take (guess).
_WITHIN = 10.0

#: <linux/if_tun.h>, <linux/sched.h>.
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000

#: The device's name in its namespace, its MTU (Ethernet's), and how many packets
#: may wait until we read them (guess: more than any program sends at once).
DEVICE, MTU, _QUEUE = "tun0", 1500, 10000

#: In the new namespaces.
_KEEP = 'ip link set lo up && mount --bind "$0" /etc/hosts && echo ready && exec cat'

#: With more than one address: packets between them go through the device, too,
#: instead of staying inside.
_SPREAD = f"""
echo 1 > /proc/sys/net/ipv4/conf/{DEVICE}/accept_local &&
echo 0 > /proc/sys/net/ipv4/conf/{DEVICE}/rp_filter &&
ip -batch - <<END
rule add pref 10 iif {DEVICE} lookup local
rule add pref 20 to 127.0.0.0/8 lookup local
rule add pref 30 lookup main
rule add pref 40 lookup local
rule del pref 0
END
"""

_libc = ctypes.CDLL(None, use_errno=True)


def _enter_network(namespace: int) -> None:
    """
    Go there, this thread only.

    @param namespace: a descriptor.
    """
    if _libc.setns(namespace, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "setns")


def _open_tun(pid: int) -> int:
    """
    A new TUN device in the network namespace of a process.

    @return: the descriptor of our end; reading it does not block.
    """
    with open("/proc/thread-self/ns/net") as ours, open(f"/proc/{pid}/ns/net") as theirs:
        _enter_network(theirs.fileno())
        try:
            end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        finally:
            _enter_network(ours.fileno())
    try:
        fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
    except OSError:
        os.close(end)
        raise
    return end


class Host:
    """
    @ivar addresses: its own, IPv4.
    @ivar tun: the descriptor of our end of its TUN device.
    """

    def __init__(self, addresses: Sequence[str], names: Mapping[str, str] | None = None) -> None:
        """
        @param names: what its hosts file says, beside C{localhost}: the address
            of each name.
        @raise OSError: it can't be made.
        @raise subprocess.SubprocessError: the same.
        """
        self.addresses = tuple(addresses)
        with NamedTemporaryFile("w", prefix="dtt-hosts-") as hosts:
            known = {"localhost": "127.0.0.1", **(names or {})}
            hosts.write("".join(f"{address} {name}\n" for name, address in known.items()))
            hosts.flush()
            self._keeper = subprocess.Popen(
                ["unshare", "-mn", "sh", "-c", _KEEP, hosts.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for this process
            )
            assert self._keeper.stdout is not None
            watchdog = Timer(_WITHIN, self._keeper.kill)
            watchdog.start()
            ready = self._keeper.stdout.readline()
            watchdog.cancel()
        self.tun = -1
        try:
            if ready != b"ready\n":
                raise OSError("namespaces can't be made here")
            self.tun = _open_tun(self._keeper.pid)
            self._configure()
        except BaseException:
            self.close()
            raise

    def _configure(self) -> None:
        lines = [f"address add {address}/32 dev {DEVICE}" for address in self.addresses]
        lines.append(f"link set {DEVICE} addrgenmode none")  # no IPv6
        lines.append(f"link set {DEVICE} up mtu {MTU} txqueuelen {_QUEUE}")
        lines.append(f"route add default dev {DEVICE} src {self.addresses[0]}")
        self._run(["ip", "-batch", "-"], "\n".join(lines))
        if len(self.addresses) > 1:
            self._run(["sh", "-c", _SPREAD])

    def _run(self, command: Sequence[str], text: str = "") -> None:
        subprocess.run(
            self.enter(*command), input=text, check=True, capture_output=True, text=True, timeout=_WITHIN
        )

    def enter(self, *command: str) -> list[str]:
        """
        What runs C{command} on this host.
        """
        setpriv = shutil.which("setpriv") or "setpriv"
        inside = ["nsenter", "-t", str(self._keeper.pid), "-m", "-n", "--", *command]
        return [setpriv, "--pdeathsig", "KILL", *inside]

    def close(self) -> None:
        """
        Take its device away.  Its namespaces end with the last process in them.
        """
        if self.tun >= 0:
            os.close(self.tun)
            self.tun = -1
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.close()
        try:
            self._keeper.wait(3)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        self._keeper.stdout.close()


@cache
def missing() -> str | None:
    """
    Why there can't be hosts here, or L{None}.
    """
    if sys.platform != "linux":
        return "network namespaces need Linux"
    if os.geteuid() != 0:
        return "network namespaces and TUN devices need root"
    for program in _PROGRAMS:
        if shutil.which(program) is None:
            return f"hosts need the program {program} (util-linux, iproute2)"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun here"
    try:
        # Documentation addresses (RFC 5737); two, to try all that may be needed.
        Host(("192.0.2.1", "192.0.2.2")).close()
    except (OSError, subprocess.SubprocessError) as error:
        return f"hosts can't be made here: {getattr(error, 'stderr', '') or error}".strip()
    return None
