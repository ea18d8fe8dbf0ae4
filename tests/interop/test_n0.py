"""
The preset C{n0}: n0's own servers under n0's names, on a host of ours; and the
preset C{none}, which needs none of them.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SkipTest, TestCase

from dtt.config import PUBLIC_BOOTSTRAP
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

#: Where n0's preset connects to: DNS, pkarr, the relay, QUIC address discovery.
N0_PLACES = {("tcp", DNS, 443), ("tcp", RELAY, 443), ("udp", RELAY, 7842)}

#: And when that takes more than 0.2 s: is there a captive portal?
N0_AT_TIMES = {("tcp", RELAY, 80)}

NAME_SERVER = {("udp", NAMES, 53), ("tcp", NAMES, 53)}

#: iroh asks routers to forward its port, with each preset: UPnP, PCP and NAT-PMP.
ROUTERS = {("udp", "239.255.255.250", 1900), ("udp", DNS, 5351)}

#: Seconds between two attempts to join.
TRY_AGAIN = 1.0

#: Seconds that a member may take to end.
ENDS_WITHIN = 5.0


Start: TypeAlias = Callable[[N0Scene, str], Actor]


def python(scene: N0Scene, name: str) -> Actor:
    """
    A member of ours, without a DHT.
    """
    return scene.python(name, "--iroh-preset", "n0", "--bootstrap", "127.0.0.1:1", "--no-pkarr")


def rust(scene: N0Scene, name: str) -> Actor:
    """
    One by the crate iroh-gossip.
    """
    return scene.rust_gossip(name, "--n0", "--trust", scene.hosts.trust.root)


def places(sniffer: Actor) -> set[tuple[str, str, int]]:
    """
    Protocol, address and port of what programs sent by IP version 4.
    """
    return {(each["protocol"], each["to"], each["port"]) for each in sniffer.told("sent") if each["port"]}


def heard(member: Actor) -> set[str]:
    """
    The texts that it got from C{dtt chat} and from others.
    """
    contents = {content.decode() for content in member.contents()}
    return {json.loads(content)["text"] if content.startswith("{") else content for content in contents}


class N0Tests(TestCase):
    """
    See the module.
    """

    timeout = 120
    skip = NO_IROH

    def setUp(self) -> None:
        """
        Know the reactor; build what is missing.
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
        @param isolated: members can't reach each other, only the servers.
        @param answering: there are n0's servers, and a name server.
        """
        scene = N0Scene(self.reactor, Path(self.mktemp()), isolated)
        self.addCleanup(lambda: Deferred.fromCoroutine(scene.close()))

        async def act() -> None:
            await scene.begin(answering)
            await scenario(scene)

        return Deferred.fromCoroutine(act())

    async def started(self, scene: N0Scene, members: Sequence[Actor]) -> None:
        """
        Wait until they run.
        """
        await scene.become("they start", lambda: all(each.told("node.started") for each in members))

    async def join(self, scene: N0Scene, member: Actor, other: Actor) -> None:
        """
        Let C{member} join C{other}, of whom it knows the id alone.
        """
        while other.peer_id not in member.neighbors():
            member.say("join", other.peer_id)
            await scene.rest(TRY_AGAIN)

    async def hears(self, scene: N0Scene, member: Actor, texts: set[str]) -> None:
        """
        Wait until it has heard just these.
        """
        await scene.become(f"{member.name} hears all", lambda: heard(member) == texts)

    # By their ids

    async def _by_id(self, scene: N0Scene, starts: Sequence[Start]) -> None:
        sniffer = await scene.sniff(0)
        first = starts[0](scene, "first")
        second = starts[1](scene, "second")
        await self.started(scene, [first, second])
        (text,) = await scene.published(second)
        self.assertIn(text, [f"relay=https://{name}./" for name in RELAYS])
        await self.join(scene, first, second)
        await scene.all_hear([first, second])

        relayed = {each["peer"] for each in scene.servers.told("relay.connected")}
        self.assertEqual(relayed, {first.peer_id, second.peer_id})
        sent = places(sniffer)
        self.assertLessEqual(N0_PLACES, sent)
        self.assertLessEqual(sent, N0_PLACES | N0_AT_TIMES | NAME_SERVER | ROUTERS)
        self.assertEqual(scene.asked(0), {ORIGIN, *RELAYS, name_of(second)})

    def act(self, *starts: Start) -> Deferred[None]:
        """
        The first one dials the second.
        """
        return self.play(lambda scene: self._by_id(scene, starts), isolated=True)

    def test_python_python(self) -> Deferred[None]:
        """
        Two members that can't reach each other, of whom one knows the other's id,
        meet by n0's servers; they publish their relay, not their address.
        """
        return self.act(python, python)

    def test_python_rust(self) -> Deferred[None]:
        """
        The same; the one that is dialled is a Rust member with iroh's defaults.
        """
        return self.act(python, rust)

    def test_rust_python(self) -> Deferred[None]:
        """
        The same; a Rust member dials one of ours.
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
        Members who met by n0's servers find a direct way if there is one.
        """
        return self.play(self._directly)

    # By the DHT

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
        C{dtt chat --iroh-preset n0}, twice, and a member by the crate
        distributed-topic-tracker with iroh's defaults: they can't reach each
        other, find each other's records in the DHT and talk by n0's relays.
        """
        return self.play(self._chat, isolated=True)

    async def _apart(self, scene: N0Scene) -> None:
        chats = [scene.chat(name, "--iroh-preset", "none") for name in ("first", "second")]
        await scene.become("they try", lambda: all(chat.told("peer.failed") for chat in chats))
        self.assertFalse(any(chat.joined for chat in chats))

    def test_apart(self) -> Deferred[None]:
        """
        Without the preset such members find each other's records, and that is all.
        """
        return self.play(self._apart, isolated=True)

    async def _none(self, scene: N0Scene) -> None:
        sniffer = await scene.sniff(0)
        chats = [scene.chat(name, "--iroh-preset", "none") for name in ("first", "second")]
        await scene.joined(chats)
        await scene.become("they publish", lambda: all(chat.told("addresses.published") for chat in chats))
        nodes = {("udp", node, NODES_PORT) for node in NODES}
        nodes |= {("udp", NODES[0], port) for _, port in PUBLIC_BOOTSTRAP}
        others = places(sniffer) - nodes - NAME_SERVER - ROUTERS
        self.assertEqual({to for _, to, _ in others}, {MEMBERS[1]})
        self.assertEqual(scene.asked(0), {name for name, _ in PUBLIC_BOOTSTRAP})
        self.assertEqual(scene.servers.told("relay.connected"), [])

    def test_none(self) -> Deferred[None]:
        """
        With the preset C{none} a member talks to DHT nodes and to members; it asks
        for no name but the bootstrap nodes', and for no server of n0's.
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
            self.assertIn("exit code 0", chat.told("ended")[0]["reason"])

    def test_silence(self) -> Deferred[None]:
        """
        When nothing of n0's answers, nor any name server, members meet by the DHT
        all the same, and end in time without a word of complaint.
        """
        return self.play(self._silence, answering=False)
