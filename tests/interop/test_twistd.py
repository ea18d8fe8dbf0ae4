"""
C{twistd dtt} as a separate process, on a DHT of dtt nodes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.interop.support import LOOPBACK, NO_INTEROP, Member, dtt_swarm, stop_all, until

#: The folder that contains twisted/plugins.
ROOT = Path(__file__).parents[2]

TOPIC = "twistd"


class Twistd(ProcessProtocol):
    """
    A running C{twistd -n dtt}.

    @ivar out: its standard output.
    @ivar err: its standard error.
    @ivar ended: fires with the exit code; -N after signal N.
    """

    def __init__(self, reactor: Any, arguments: list[str], home: Path) -> None:
        self.out = self.err = b""
        self.ended: Deferred[int] = Deferred()
        command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
        command += ["-n", "--pidfile=", "dtt", *arguments]
        environ = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT)}
        self.process = reactor.spawnProcess(self, sys.executable, command, env=environ, path=str(ROOT))

    def outReceived(self, data: bytes) -> None:
        """
        Keep the output.
        """
        self.out += data

    def errReceived(self, data: bytes) -> None:
        """
        Keep the output.
        """
        self.err += data

    def processEnded(self, reason: Failure) -> None:
        """
        Fire C{ended}.
        """
        value: Any = reason.value
        self.ended.callback(value.exitCode if value.signal is None else -value.signal)

    def lines(self) -> list[str]:
        """
        All lines of output.
        """
        return (self.out + self.err).decode().splitlines()


class TwistdCase(TestCase):
    """
    Services on a separate DHT.
    """

    skip = NO_INTEROP
    timeout = 180

    def setUp(self) -> Deferred[None]:  # type: ignore[override]
        """
        Start a DHT.
        """
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.folder = self.folder.resolve()
        self.secret = self.folder / "secret"
        self.secret.touch(mode=0o600)
        self.secret.write_bytes(b"secret")

        async def start() -> None:
            self.nodes = await dtt_swarm(reactor, 9)
            self.addCleanup(lambda: Deferred.fromCoroutine(stop_all(self.nodes)))

        return Deferred.fromCoroutine(start())

    def twistd(self, *arguments: str, state: str = "state") -> Twistd:
        """
        Start twistd.
        """
        common = ["--state-dir", str(self.folder / state), "--transport", "streams"]
        if "--listen" not in arguments:
            common += ["--listen", f"{LOOPBACK}:0"]
        common += ["--secret-file", str(self.secret), "--bootstrap", f"{LOOPBACK}:{self.nodes[0].port}"]
        twistd = Twistd(self.reactor, [*common, *arguments], self.folder)

        def clean_up() -> Deferred[int] | None:
            if twistd.ended.called:
                return None
            twistd.process.signalProcess("KILL")
            return twistd.ended

        self.addCleanup(clean_up)
        return twistd

    async def stop(self, twistd: Twistd) -> None:
        """
        Send SIGTERM; it must stop cleanly within 2 s. twistd then dies of the signal that
        it got, so that its parent is informed (C{_exitWithSignal}).
        """
        began = self.reactor.seconds()
        twistd.process.signalProcess("TERM")
        code = await twistd.ended
        self.assertIn(code, (0, -signal.SIGTERM), twistd.lines())
        self.assertIn("Server Shut Down.", twistd.lines()[-1])
        self.assertNotIn("Traceback", "".join(twistd.lines()))
        self.assertLess(self.reactor.seconds() - began, 2)

    async def meets(self, *arguments: str) -> Twistd:
        """
        Let a twistd meet a member in this process, and stop it.
        """
        bootstrap = [(LOOPBACK, self.nodes[0].port)]
        member = Member(self.reactor, bootstrap, TOPIC, b"secret")
        member.start()
        self.addCleanup(member.stop)
        twistd = self.twistd("--topic", TOPIC, *arguments)
        await member.topic.when_joined()
        await until(self.reactor, lambda: b"oined" in twistd.out)
        await self.stop(twistd)
        await until(self.reactor, lambda: not member.topic.neighbors())
        return twistd

    async def _text(self) -> None:
        twistd = await self.meets()
        self.assertEqual(twistd.err, b"")
        self.assertIn("Started as", twistd.out.decode())


class TwistdTests(TwistdCase):
    """
    The plugin.
    """

    def test_text(self) -> Deferred[None]:
        """
        It joins another member and reports this as text; SIGTERM stops it within 2 s,
        with a goodbye.
        """
        return Deferred.fromCoroutine(self._text())

    async def _json(self) -> None:
        twistd = await self.meets("--log-format", "json")
        events = [json.loads(line) for line in twistd.lines()]
        names = {event["event"] for event in events}
        self.assertLessEqual({"node.started", "dht.ready", "neighbor.up", "topic.joined", "log"}, names)
        self.assertTrue(all(isinstance(event["time"], float) for event in events))

    def test_json(self) -> Deferred[None]:
        """
        With C{--log-format json} every line is a JSON object, including Twisted's own.
        """
        return Deferred.fromCoroutine(self._json())

    async def fails(self, twistd: Twistd, *words: str) -> None:
        """
        Check that it exits with one line that has C{words}, and a code other than 0.
        """
        code = await twistd.ended
        lines = twistd.lines()
        self.assertGreater(code, 0, lines)
        complaints = [line for line in lines if "twistd dtt: " in line]
        self.assertEqual(len(complaints), 1, lines)
        self.assertNotIn("Traceback", "".join(lines))
        for word in words:
            self.assertIn(word, complaints[0])

    async def _taken_udp(self) -> None:
        port = str(self.nodes[3].port)
        await self.fails(self.twistd("--topic", TOPIC, "--dht-port", port), port, "UDP")

    def test_taken_udp_port(self) -> Deferred[None]:
        """
        If the DHT port is in use, it exits with one line.
        """
        return Deferred.fromCoroutine(self._taken_udp())

    async def _taken_tcp(self, taken: socket.socket) -> None:
        port = str(taken.getsockname()[1])
        await self.fails(self.twistd("--topic", TOPIC, "--listen", f"{LOOPBACK}:{port}"), port)

    def test_taken_tcp_port(self) -> Deferred[None]:
        """
        If the port of C{--listen} is in use, it exits with one line.
        """
        taken = socket.create_server((LOOPBACK, 0))
        self.addCleanup(taken.close)
        return Deferred.fromCoroutine(self._taken_tcp(taken))

    async def _bad_file(self, text: str, *words: str) -> None:
        file = self.folder / "dtt.toml"
        file.write_text(text)
        await self.fails(self.twistd("--topic", TOPIC, "--config", str(file)), str(file), *words)

    def test_unknown_key(self) -> Deferred[None]:
        """
        An unknown key in the TOML file is refused with the file and the key.
        """
        return Deferred.fromCoroutine(self._bad_file("[dht]\nporf = 1\n", "dht.porf"))

    def test_wrong_type(self) -> Deferred[None]:
        """
        A wrong type is refused with the file, the key, and what was expected.
        """
        return Deferred.fromCoroutine(
            self._bad_file('[dht]\nport = "x"\n', "dht.port", "expected a whole number")
        )

    def test_no_toml(self) -> Deferred[None]:
        """
        A file that is not TOML is refused with its name.
        """
        return Deferred.fromCoroutine(self._bad_file("[dht\n", "not a TOML file"))

    async def _second(self) -> None:
        first = self.twistd("--topic", TOPIC)
        await until(self.reactor, lambda: b"Started as" in first.out)
        await self.fails(self.twistd("--topic", TOPIC), str(self.folder / "state"))
        await self.stop(first)

    def test_second_process(self) -> Deferred[None]:
        """
        A second process on the same state directory is refused; the first one continues.
        """
        return Deferred.fromCoroutine(self._second())

    async def _no_topic(self) -> None:
        await self.fails(self.twistd(), "no topic")

    def test_no_topic(self) -> Deferred[None]:
        """
        Without a topic it says how to give one.
        """
        return Deferred.fromCoroutine(self._no_topic())

    async def _restart(self) -> None:
        started = []
        for _ in range(2):
            twistd = self.twistd("--topic", TOPIC, "--log-format", "json")
            await until(self.reactor, lambda twistd=twistd: b"dht.ready" in twistd.out)  # type: ignore[misc]
            await self.stop(twistd)
            events = [json.loads(line) for line in twistd.lines()]
            (event,) = [event for event in events if event["event"] == "node.started"]
            started.append({key: event[key] for key in ("peer_id", "dht_port", "listen")})
        self.assertEqual(started[0], started[1])

    def test_restart(self) -> Deferred[None]:
        """
        After a restart it has the same key and the same ports.
        """
        return Deferred.fromCoroutine(self._restart())
