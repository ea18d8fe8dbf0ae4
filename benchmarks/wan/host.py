"""
Hosts on a simulated Internet.

A L{Host} is a network namespace and a mount namespace. Everything that it sends leaves
through a TUN device, whose other end is a file descriptor in this process: reading it
returns the IP packets that the host sends; writing to it delivers packets to the host
(see L{benchmarks.wan.carrier}). Nothing in it can reach the machine's own network. It may
have its own hosts file, for programs with hard-coded names of bootstrap nodes.

A host exists until L{Host.close}, or until this process ends: a C{cat} keeps its
namespaces, and ends with its standard input. Processes started with L{Host.enter} are
killed when this process ends, for whatever reason.

It requires Linux, root, C{/dev/net/tun}, util-linux and iproute2.
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

#: The required programs.
_PROGRAMS = ("unshare", "nsenter", "setpriv", "mount", "ip")

#: The timeout of each of them, in seconds (guess).
_WITHIN = 10.0

#: <linux/if_tun.h>, <linux/sched.h>.
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000

#: The device's name in its namespace, its MTU (Ethernet's), and the length of its queue in packets
#: (guess: more than any program sends in a burst).
DEVICE, MTU, _QUEUE = "tun0", 1500, 10000

#: The commands run in the new namespaces.
_KEEP = 'ip link set lo up && mount --bind "$0" /etc/hosts && echo ready && exec cat'

#: With more than one address: packets between them pass the device, too, instead of staying inside.
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
    Move this thread, and only this thread, into the network namespace.

    @param namespace: a descriptor.
    """
    if _libc.setns(namespace, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "setns")


def open_tun(pid: int, device: str = DEVICE) -> int:
    """
    Create a TUN device in the network namespace of a process.

    @param device: its name.
    @return: the descriptor of this process's end; reading it does not block.
    """
    with open("/proc/thread-self/ns/net") as ours, open(f"/proc/{pid}/ns/net") as theirs:
        _enter_network(theirs.fileno())
        try:
            end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        finally:
            _enter_network(ours.fileno())
    try:
        fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", device.encode(), _IFF_TUN | _IFF_NO_PI))
    except OSError:
        os.close(end)
        raise
    return end


class Host:
    """
    A host.

    @ivar addresses: its IPv4 addresses.
    @ivar tun: the descriptor of this process's end of its TUN device.
    """

    def __init__(self, addresses: Sequence[str], names: Mapping[str, str] | None = None) -> None:
        """
        @param names: the names and addresses in its hosts file, in addition to
            C{localhost}.
        @raise OSError: it can't be created.
        @raise subprocess.SubprocessError: it can't be created.
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
                start_new_session=True,  # keeps Ctrl-C for this process
            )
            assert self._keeper.stdout is not None
            watchdog = Timer(_WITHIN, self._keeper.kill)
            watchdog.start()
            ready = self._keeper.stdout.readline()
            watchdog.cancel()
        self.tun = -1
        try:
            if ready != b"ready\n":
                raise OSError("can't create namespaces here")
            self.tun = open_tun(self._keeper.pid)
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
        The command that runs C{command} on this host.
        """
        setpriv = shutil.which("setpriv") or "setpriv"
        inside = ["nsenter", "-t", str(self._keeper.pid), "-m", "-n", "--", *command]
        return [setpriv, "--pdeathsig", "KILL", *inside]

    def close(self) -> None:
        """
        Remove its device. Its namespaces end with the last process in them.
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
    The reason why hosts can't be created here; C{None} if they can.
    """
    if sys.platform != "linux":
        return "network namespaces need Linux"
    if os.geteuid() != 0:
        return "network namespaces and TUN devices need root"
    for program in _PROGRAMS:
        if shutil.which(program) is None:
            return f"{program} is not installed; install util-linux and iproute2"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun here"
    try:
        # Documentation addresses (RFC 5737); two, to test all that may be needed.
        Host(("192.0.2.1", "192.0.2.2")).close()
    except (OSError, subprocess.SubprocessError) as error:
        return f"can't create hosts here: {getattr(error, 'stderr', '') or error}".strip()
    return None
