"""
A small internet in which n0's domain names lead to local servers, which are n0's own
crates: C{rust/src/bin/n0-servers.rs}.

Hosts are network namespaces on one bridge (L{tests.interop.hosts}). One runs the servers
and the name server that all hosts use (L{tests.interop.name_server}). Each of the others
runs a member whose bindings accept a local certificate as n0's (L{tests.interop.trust}).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from dtt.config import PUBLIC_BOOTSTRAP
from dtt.identity import z32_encode
from tests.interop.actors import Actor
from tests.interop.hosts import Network, inside
from tests.interop.rooms import ROOT, rust
from tests.interop.stage import Scene
from tests.interop.trust import Trust

#: The names in n0's preset, iroh 1.4 (crate iroh, src/defaults.rs, src/address_lookup/pkarr.rs, crate
#: iroh-dns, src/dns.rs).
ORIGIN = "dns.iroh.link"
RELAYS = tuple(f"{place}.relay.n0.iroh.link" for place in ("use1-1", "usw1-1", "euc1-1", "aps1-1"))

#: The addresses of the server host: DNS and pkarr, the relay, the name server, the nodes of the DHT
#: (each in a separate network).
DNS, RELAY, NAMES = "45.1.7.1", "45.1.7.2", "45.1.7.3"
NODES = tuple(f"45.{number}.7.1" for number in range(101, 109))
NODES_PORT = 6881

#: The addresses of the members' hosts, in the order in which they are used.
MEMBERS = ("45.2.7.1", "45.3.7.1", "45.4.7.1")

#: In a host's mount namespace: the name server it uses, and the certificates its bindings trust.
_SCRIPT = 'mount --bind "$0" /etc/resolv.conf && export PYTHONPATH="$1" && shift && exec "$@"'


def name_of(member: Actor) -> str:
    """
    The name of a member's TXT records in n0's DNS.
    """
    return f"_iroh.{z32_encode(bytes.fromhex(member.peer_id))}.{ORIGIN}"


class Hosts:
    """
    The network. Each program that is started gets the next host.
    """

    def __init__(self, folder: Path, isolated: bool) -> None:
        """
        @param isolated: members can reach only the servers, not each other.
        """
        self.network = Network()
        self._free: list[str] = []
        self._isolated = isolated
        self._folder = folder

    def build(self) -> None:
        """
        Create the network.
        """
        self.network.build()
        self._servers = self.network.add_host(0, DNS)
        for address in NODES:
            self.network.add_address(self._servers, address)
        for number, address in enumerate(MEMBERS, 1):
            name = self.network.add_host(number, address)
            # Makes packets to any address visible.
            self.network.add_gateway(name, DNS)
            self._free.append(name)
            if self._isolated:
                self.network.isolate(number)
        self.trust = Trust(self._folder)
        self._resolv_conf = self._folder / "resolv.conf"
        self._resolv_conf.write_text(f"nameserver {NAMES}\n")

    def enter(self, *command: str) -> list[str]:
        """
        The command that runs C{command} on the next host.
        """
        path = f"{self.trust.bindings}:{ROOT}"
        return inside(self._free.pop(0), "sh", "-c", _SCRIPT, str(self._resolv_conf), path, *command)

    def add_address(self, address: str) -> None:
        """
        Add an address to the server host.
        """
        self.network.add_address(self._servers, address)

    def on_servers(self, *command: str) -> list[str]:
        """
        The command that runs C{command} on the server host.
        """
        return inside(self._servers, *command)

    def on_bridge(self, *command: str) -> list[str]:
        """
        The command that runs C{command} on the bridge, which all packets pass.
        """
        return inside(self.network.bridge, *command)


class N0Scene(Scene):
    """
    Members on separate hosts.

    @ivar hosts: the hosts.
    @ivar servers: n0's servers.
    @ivar names: the name server.
    """

    hosts: Hosts
    servers: Actor
    names: Actor

    def __init__(self, reactor: Any, folder: Path, isolated: bool = False) -> None:
        folder.mkdir(parents=True)
        self.hosts = Hosts(folder.absolute(), isolated)
        super().__init__(reactor, "n0's names", folder / "members")
        self._files = folder.absolute()

    def enter(self, *command: str) -> list[str]:
        """
        As L{Scene.enter}: on the next host.
        """
        return self.hosts.enter(*command)

    async def begin(self, answering: bool) -> None:
        """
        Create the network and start the servers.

        @param answering: if false, only the DHT's servers run, and no name server.
        """
        self.hosts.build()
        module = [sys.executable, "-m", "tests.interop.public_nodes"]
        self._serve("DHT", *module, str(NODES_PORT), *NODES)
        if answering:
            self._serve_n0()
        await self.become(
            "the servers start", lambda: all(each.reported("ready") for each in self.actors), 10
        )

    def _serve_n0(self) -> None:
        for address in (RELAY, NAMES):
            self.hosts.add_address(address)
        certificates = self._files / "cert_cache"
        certificates.mkdir()
        self.hosts.trust.certify(
            [ORIGIN, *RELAYS], certificates / f"{ORIGIN}.crt", certificates / f"{ORIGIN}.key"
        )
        self.servers = self._serve("servers", rust("n0-servers"), DNS, RELAY, str(self._files))
        known = [f"{name}={RELAY}" for name in RELAYS]
        known += [f"{name}={NODES[0]}" for name, _ in PUBLIC_BOOTSTRAP]
        module = [sys.executable, "-m", "tests.interop.name_server"]
        self.names = self._serve("names", *module, NAMES, ORIGIN, DNS, *known)

    def _serve(self, name: str, *command: str) -> Actor:
        actor = Actor(self._reactor, name, "server", self.hosts.on_servers(*command))
        self.actors.append(actor)
        return actor

    async def sniff(self, member: int) -> Actor:
        """
        Record what a member's host sends from now on.

        @param member: its number; the first is 0.
        """
        module = [sys.executable, "-m", "tests.interop.sniffer", f"port{member + 1}"]
        actor = Actor(self._reactor, "sniffer", "server", self.hosts.on_bridge(*module))
        self.actors.append(actor)
        await self.become("the sniffer starts", lambda: actor.reported("ready"))
        return actor

    async def published(self, member: Actor) -> list[str]:
        """
        Wait until n0's DNS has records of a member.

        @return: the records.
        """
        name = name_of(member)
        self.names.say(name)

        def answers() -> list[list[str]]:
            return [each["answers"] for each in self.names.reported("published") if each["name"] == name]

        await self.become(f"{member.name} publishes", answers)
        return answers()[0]

    def asked(self, member: int) -> set[str]:
        """
        The names that a member's host has queried.
        """
        return {each["name"] for each in self.names.reported("asked") if each["by"] == MEMBERS[member]}

    async def close(self) -> None:
        """
        Stop everything.
        """
        await super().close()
        self.hosts.network.remove()
