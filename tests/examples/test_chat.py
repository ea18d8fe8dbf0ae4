"""
Tests for examples/chat.tac, on a network in memory.
"""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from typing import Any

import twisted.internet
import twisted.internet.stdio
from twisted.application.service import IService
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from dtt.testing.swarm import VirtualSwarm
from dtt.tracker import tracker
from tests.examples import EXAMPLES

CONFIG = """
transport = ["streams"]
listen = "10.2.200.1:0"
[dht]
bind = "10.2.200.1"
bind6 = "off"
bootstrap = ["10.1.1.1:6881"]
[[topic]]
name = "virtual swarm"
secret_file = "secret"
"""


class ChatTests(SynchronousTestCase):
    """
    The application and another member.
    """

    def test_chat(self) -> None:
        """
        Lines go to the others; theirs are shown, without control characters; nothing is left
        at the end.
        """
        path = EXAMPLES / "chat.tac"
        if not path.exists():
            raise SkipTest("the examples are not beside an installed package")
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "chat.toml").write_text(CONFIG)
        (folder / "secret").touch(0o600)
        (folder / "secret").write_bytes(b"virtual swarm")
        here = os.getcwd()
        os.chdir(folder)
        self.addCleanup(os.chdir, here)
        with VirtualSwarm(members=1, seed=4) as swarm:
            terminal = StringTransport()

            def stdio(protocol: Any, reactor: Any) -> StringTransport:
                protocol.makeConnection(terminal)
                typed.append(protocol.dataReceived)
                return terminal

            typed: list[Any] = []
            self.patch(twisted.internet, "reactor", swarm.network.reactor("10.2.200.1"))
            self.patch(twisted.internet.stdio, "StandardIO", stdio)
            self.patch(tracker, "SystemRandom", lambda: Random(1))
            names: dict[str, Any] = {}
            exec(compile(path.read_text("utf-8"), str(path), "exec"), names)
            application = IService(names["application"])
            application.privilegedStartService()
            application.startService()
            self.assertTrue(swarm.until(swarm.joined))
            swarm.advance(1)
            typed[0](b"hello\nhello\n")
            swarm.topics[0].broadcast(b"good \x1b[31mevening\xff")
            swarm.advance(1)
            self.assertEqual(swarm.heard(0), [b"hello"])
            swarm.stop(0)
            stopping = application.stopService()
            swarm.advance(5)
            self.successResultOf(stopping)
        other = swarm.trackers[0].peer_id.hex()[:10]
        lines = terminal.value().decode().splitlines()
        self.assertEqual(lines[0], f"[{other} is here]")
        self.assertTrue(lines[1].startswith("not sent: "), lines)
        self.assertEqual(lines[2:], ["good ?[31mevening\N{REPLACEMENT CHARACTER}", f"[{other} is gone]"])
