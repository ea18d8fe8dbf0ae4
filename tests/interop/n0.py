"""
A small internet in which n0's names lead to servers of our own, which are n0's own
crates: C{rust/src/bin/n0-servers.rs}.

Hosts are network namespaces on one bridge (L{tests.interop.hosts}).  One has the
servers, and the name server that all ask (L{tests.interop.name_server}).  The others
have a member each, whose bindings take a certificate of ours for n0's
(L{tests.interop.trust}).
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

#: Of n0's preset, iroh 1.4 (crate iroh, src/defaults.rs, src/address_lookup/pkarr.rs,
#: crate iroh-dns, src/dns.rs).
ORIGIN = "dns.iroh.link"
RELAYS = tuple(f"{place}.relay.n0.iroh.link" for place in ("use1-1", "usw1-1", "euc1-1", "aps1-1"))

#: Of the host with the servers: DNS and pkarr, the relay, the name server, the nodes
#: of the DHT (each in a network of its own).
DNS, RELAY, NAMES = "45.1.7.1", "45.1.7.2", "45.1.7.3"
NODES = tuple(f"45.{number}.7.1" for number in range(101, 109))
NODES_PORT = 6881

#: Of the members' hosts, in the order in which they are entered.
MEMBERS = ("45.2.7.1", "45.3.7.1", "45.4.7.1")

#: In a host's mount namespace: whom it asks for names, and whom its bindings trust.
_SCRIPT = 'mount --bind "$0" /etc/resolv.conf && export PYTHONPATH="$1" && shift && exec "$@"'


def name_of(member: Actor) -> str:
    """
    Of the texts about a member in n0's DNS.
    """
    return f"_iroh.{z32_encode(bytes.fromhex(member.peer_id))}.{ORIGIN}"


class Hosts:
    """
    The network: each program that enters has the next host for itself.
    """

    def __init__(self, folder: Path, isolated: bool) -> None:
        """
        @param isolated: members can't reach each other, only the servers.
        """
        self.network = Network()
        self._free: list[str] = []
        self._isolated = isolated
        self._folder = folder

    def build(self) -> None:
        """
        Make it.
        """
        self.network.build()
        self._servers = self.network.add_host(0, DNS)
        for address in NODES:
            self.network.add_address(self._servers, address)
        for number, address in enumerate(MEMBERS, 1):
            name = self.network.add_host(number, address)
            # So that what is sent to whatever address can be seen.
            self.network.add_gateway(name, DNS)
            self._free.append(name)
            if self._isolated:
                self.network.isolate(number)
        self.trust = Trust(self._folder)
        self._resolv_conf = self._folder / "resolv.conf"
        self._resolv_conf.write_text(f"nameserver {NAMES}\n")

    def enter(self, *command: str) -> list[str]:
        """
        What runs C{command} on the next host.
        """
        path = f"{self.trust.bindings}:{ROOT}"
        return inside(self._free.pop(0), "sh", "-c", _SCRIPT, str(self._resolv_conf), path, *command)

    def add_address(self, address: str) -> None:
        """
        Of the host with the servers.
        """
        self.network.add_address(self._servers, address)

    def on_servers(self, *command: str) -> list[str]:
        """
        What runs C{command} beside the servers.
        """
        return inside(self._servers, *command)

    def on_bridge(self, *command: str) -> list[str]:
        """
        What runs C{command} where all packets pass.
        """
        return inside(self.network.bridge, *command)


class N0Scene(Scene):
    """
    Members on hosts of their own.

    @ivar hosts: those.
    @ivar servers: n0's.
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
        Make the network and start the servers.

        @param answering: without it there are no servers but the DHT's, and no
            name server.
        """
        self.hosts.build()
        module = [sys.executable, "-m", "tests.interop.public_nodes"]
        self._serve("DHT", *module, str(NODES_PORT), *NODES)
        if answering:
            self._serve_n0()
        await self.become("the servers start", lambda: all(each.told("ready") for each in self.actors), 10)

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
        Watch what a member's host sends, from now on.

        @param member: its number, the first is 0.
        """
        module = [sys.executable, "-m", "tests.interop.sniffer", f"port{member + 1}"]
        actor = Actor(self._reactor, "sniffer", "server", self.hosts.on_bridge(*module))
        self.actors.append(actor)
        await self.become("the sniffer starts", lambda: actor.told("ready"))
        return actor

    async def published(self, member: Actor) -> list[str]:
        """
        Wait until n0's DNS knows a member.

        @return: what it says of it.
        """
        name = name_of(member)
        self.names.say(name)

        def told() -> list[list[str]]:
            return [each["answers"] for each in self.names.told("published") if each["name"] == name]

        await self.become(f"{member.name} publishes", told)
        return told()[0]

    def asked(self, member: int) -> set[str]:
        """
        The names that a member's host asked for.
        """
        return {each["name"] for each in self.names.told("asked") if each["by"] == MEMBERS[member]}

    async def close(self) -> None:
        """
        End all.
        """
        await super().close()
        self.hosts.network.remove()
