"""
The preset C{n0}, with n0's own servers under n0's names on a local host; and the preset
C{none}, which uses none of them.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SkipTest, TestCase

from dtt.config import PUBLIC_BOOTSTRAP
from dtt.discovery.lan_messages import GROUP4
from dtt.records.envelope import is_envelope, unverified_content
from tests.interop import hosts, rooms
from tests.interop.actors import Actor
from tests.interop.n0 import (
    DNS,
    MEMBERS,
    NAMES,
    NODES,
    NODES_PORT,
    ORIGIN,
    RELAY,
    RELAYS,
    N0Scene,
    name_of,
)
from tests.interop.support import NO_IROH

#: The addresses to which n0's preset connects: DNS, pkarr, the relay, QUIC address discovery.
N0_PLACES = {("tcp", DNS, 443), ("tcp", RELAY, 443), ("udp", RELAY, 7842)}

#: If that takes more than 0.2 s, it also checks for a captive portal.
N0_AT_TIMES = {("tcp", RELAY, 80)}

NAME_SERVER = {("udp", NAMES, 53), ("tcp", NAMES, 53)}

#: With each preset, iroh asks routers to forward its port: UPnP, PCP and NAT-PMP.
ROUTERS = {("udp", "239.255.255.250", 1900), ("udp", DNS, 5351)}

#: Seconds between two attempts to join.
TRY_AGAIN = 1.0

#: The limit for stopping a member in seconds.
ENDS_WITHIN = 5.0


Start: TypeAlias = Callable[[N0Scene, str], Actor]


def python(scene: N0Scene, name: str) -> Actor:
    """
    A dtt member without a DHT.
    """
    return scene.python(name, "--iroh-preset", "n0", "--bootstrap", "127.0.0.1:1", "--no-pkarr")


def rust(scene: N0Scene, name: str) -> Actor:
    """
    A member of the crate iroh-gossip.
    """
    return scene.rust_gossip(name, "--n0", "--trust", scene.hosts.trust.root)


def places(sniffer: Actor) -> set[tuple[str, str, int]]:
    """
    The protocol, address and port of IPv4 packets sent by programs.
    """
    return {(each["protocol"], each["to"], each["port"]) for each in sniffer.reported("sent") if each["port"]}


def heard(member: Actor) -> set[str]:
    """
    The texts that it received from C{dtt chat} and from others.
    """
    contents = {
        (unverified_content(content) if is_envelope(content) else content).decode()
        for content in member.contents()
    }
    return {json.loads(content)["text"] if content.startswith("{") else content for content in contents}


class N0Tests(TestCase):
    """
    The presets C{n0} and C{none}.
    """

    timeout = 120
    skip = NO_IROH

    def setUp(self) -> None:
        """
        Get the reactor, and build what is missing.
        """
        from twisted.internet import reactor

        self.reactor: Any = reactor
        reason = rooms.missing() or hosts.missing()
        if reason:
            raise SkipTest(reason)
        rooms.rust("n0-servers")

    def play(
        self, scenario: Callable[[N0Scene], Awaitable[None]], isolated: bool = False, answering: bool = True
    ) -> Deferred[None]:
        """
        Play a scenario.

        @param isolated: members can reach only the servers, not each other.
        @param answering: run n0's servers and a name server.
        """
        scene = N0Scene(self.reactor, Path(self.mktemp()), isolated)
        self.addCleanup(lambda: Deferred.fromCoroutine(scene.close()))

        async def act() -> None:
            await scene.begin(answering)
            await scenario(scene)

        return Deferred.fromCoroutine(act())

    async def started(self, scene: N0Scene, members: Sequence[Actor]) -> None:
        """
        Wait until the members are running.
        """
        await scene.become("they start", lambda: all(each.reported("node.started") for each in members))

    async def join(self, scene: N0Scene, member: Actor, other: Actor) -> None:
        """
        Let C{member} join C{other}, knowing only its id.
        """
        while other.peer_id not in member.neighbors():
            member.say("join", other.peer_id)
            await scene.rest(TRY_AGAIN)

    async def hears(self, scene: N0Scene, member: Actor, texts: set[str]) -> None:
        """
        Wait until it has received exactly these contents.
        """
        await scene.become(f"{member.name} hears all", lambda: heard(member) == texts)

    # By id

    async def _by_id(self, scene: N0Scene, starts: Sequence[Start]) -> None:
        sniffer = await scene.sniff(0)
        first = starts[0](scene, "first")
        second = starts[1](scene, "second")
        await self.started(scene, [first, second])
        (text,) = await scene.published(second)
        self.assertIn(text, [f"relay=https://{name}./" for name in RELAYS])
        await self.join(scene, first, second)
        await scene.all_hear([first, second])

        relayed = {each["peer"] for each in scene.servers.reported("relay.connected")}
        self.assertEqual(relayed, {first.peer_id, second.peer_id})
        sent = places(sniffer)
        self.assertLessEqual(N0_PLACES, sent)
        self.assertLessEqual(sent, N0_PLACES | N0_AT_TIMES | NAME_SERVER | ROUTERS)
        self.assertEqual(scene.asked(0), {ORIGIN, *RELAYS, name_of(second)})

    def act(self, *starts: Start) -> Deferred[None]:
        """
        Let the first member dial the second.
        """
        return self.play(lambda scene: self._by_id(scene, starts), isolated=True)

    def test_python_python(self) -> Deferred[None]:
        """
        Two members that can't reach each other, one of which knows the other's id,
        connect through n0's servers; they publish their relay, but not their addresses.
        """
        return self.act(python, python)

    def test_python_rust(self) -> Deferred[None]:
        """
        The same works if the dialled member is a Rust member with iroh's defaults.
        """
        return self.act(python, rust)

    def test_rust_python(self) -> Deferred[None]:
        """
        The same works if a Rust member dials a dtt member.
        """
        return self.act(rust, python)

    async def _directly(self, scene: N0Scene) -> None:
        sniffer = await scene.sniff(0)
        first = python(scene, "first")
        second = python(scene, "second")
        await self.started(scene, [first, second])
        await scene.published(second)
        await self.join(scene, first, second)
        await scene.become("a direct way", lambda: any(to == MEMBERS[1] for _, to, _ in places(sniffer)))
        await scene.all_hear([first, second])

    def test_directly(self) -> Deferred[None]:
        """
        Members that met through n0's servers use a direct path if there is one.
        """
        return self.play(self._directly)

    # Through the DHT

    async def _chat(self, scene: N0Scene) -> None:
        chats = [scene.chat(name, "--iroh-preset", "n0") for name in ("first", "second")]
        peer = scene.rust("rust", "--n0", "--trust", scene.hosts.trust.root, pkarr=False)
        await self.started(scene, [*chats, peer])
        await scene.joined([*chats, peer])
        for chat in chats:
            chat.say(f"from {chat.name}")
        peer.say("say", b"from rust")
        said = {"from first", "from second", "from rust"}
        for each in (*chats, peer):
            await self.hears(scene, each, said - {f"from {each.name}"})

    def test_chat(self) -> Deferred[None]:
        """
        Two processes of C{dtt chat --iroh-preset n0} and a member of the crate
        distributed-topic-tracker with iroh's defaults, which can't reach each other, find
        each other's records in the DHT and talk through n0's relays.
        """
        return self.play(self._chat, isolated=True)

    async def _apart(self, scene: N0Scene) -> None:
        chats = [scene.chat(name, "--iroh-preset", "none") for name in ("first", "second")]
        await scene.become("they try", lambda: all(chat.reported("peer.failed") for chat in chats))
        self.assertFalse(any(chat.joined for chat in chats))

    def test_apart(self) -> Deferred[None]:
        """
        Without the preset such members find each other's records, but can't connect.
        """
        return self.play(self._apart, isolated=True)

    async def _none(self, scene: N0Scene) -> None:
        sniffer = await scene.sniff(0)
        chats = [scene.chat(name, "--iroh-preset", "none") for name in ("first", "second")]
        await scene.joined(chats)
        await scene.become(
            "they publish", lambda: all(chat.reported("addresses.published") for chat in chats)
        )
        nodes = {("udp", node, NODES_PORT) for node in NODES}
        nodes |= {("udp", NODES[0], port) for _, port in PUBLIC_BOOTSTRAP}
        others = places(sniffer) - nodes - NAME_SERVER - ROUTERS
        # And the search of the local network.
        self.assertEqual({to for _, to, _ in others} - {GROUP4}, {MEMBERS[1]})
        self.assertEqual(scene.asked(0), {name for name, _ in PUBLIC_BOOTSTRAP})
        self.assertEqual(scene.servers.reported("relay.connected"), [])

    def test_none(self) -> Deferred[None]:
        """
        With the preset C{none} a member communicates only with DHT nodes and members; it
        resolves only the names of the bootstrap nodes and uses none of n0's servers.
        """
        return self.play(self._none)

    async def _silence(self, scene: N0Scene) -> None:
        options = ("--iroh-preset", "n0", "--bootstrap", f"{NODES[0]}:{NODES_PORT}")
        chats = [scene.chat(name, *options) for name in ("first", "second")]
        await scene.joined(chats)
        chats[0].say("hello")
        await self.hears(scene, chats[1], {"hello"})
        began = self.reactor.seconds()
        for chat in chats:
            await chat.terminate()
        self.assertLess(self.reactor.seconds() - began, ENDS_WITHIN)
        self.assertEqual([chat.errors for chat in chats], [b"", b""])
        for chat in chats:
            self.assertIn("exit code 0", chat.reported("ended")[0]["reason"])

    def test_silence(self) -> Deferred[None]:
        """
        If neither n0's servers nor a name server answer, members still meet through the
        DHT, and stop in time without an error message.
        """
        return self.play(self._silence, answering=False)
