"""
Tests for the state of whole trackers that is kept across restarts.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.protocol import DatagramProtocol, Factory

from dtt.dht.saved import FILE as DHT_FILE
from dtt.errors import ListenError, StateError
from dtt.events import DHTReady
from dtt.state import StateDirectory
from dtt.tracker.kept import KEY_FILE, PORTS_FILE
from tests.tracker.case import TrackerTestCase


class StateTests(TrackerTestCase):
    """
    State that is kept across restarts.
    """

    def test_kept(self) -> None:
        """Key, ports, node id and known nodes are kept; the second run needs no bootstrap host."""
        path = self.state_dir()
        reactor = self.net.reactor("10.0.0.1")
        elsewhere = [reactor.listenUDP(0, DatagramProtocol()), reactor.listenTCP(0, Factory())]
        first = self.tracker(state_dir=path)
        for port in elsewhere:  # the ports that 0 would select
            port.stopListening()
        self.net.advance(2)
        ports, node_id = self.ports(), first.dht.node_id
        self.stop(first)
        saved = json.loads((path / PORTS_FILE).read_text())
        self.assertEqual((saved["dht"], saved["streams"]), (ports["udp"], ports["tcp"]))
        self.assertEqual(len(json.loads((path / DHT_FILE).read_text())["nodes"]), 3)
        self.assertEqual(stat.S_IMODE((path / KEY_FILE).stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o700)
        second = self.tracker(state_dir=path, dht={"bootstrap": ()})
        self.assertEqual((second.peer_id, second.dht.node_id), (first.peer_id, node_id))
        self.assertEqual(self.ports(), ports)
        self.net.advance(1)
        self.assertEqual(len(self.of(second, DHTReady)), 1)
        self.stop(second)
        self.assertEqual(self.warnings, [])
        self.assert_nothing_left()

    def test_external_host(self) -> None:
        """The external address of the last run is listed until nodes report another."""
        path = self.state_dir()
        self.stop(self.tracker(state_dir=path))
        saved = json.loads((path / DHT_FILE).read_text())
        (path / DHT_FILE).write_text(json.dumps({**saved, "external_host": "198.18.7.7"}))
        tracker = self.tracker(state_dir=path, listen=("0.0.0.0", 0))
        self.assertEqual(str(tracker._listeners.transport.addresses()[0]).partition(":")[0], "198.18.7.7")
        self.stop(tracker)

    def test_saved_in_between(self) -> None:
        """The state is also written periodically, not only at the end."""
        path = self.state_dir()
        tracker = self.tracker(state_dir=path)
        self.net.advance(301)
        self.assertEqual(len(json.loads((path / DHT_FILE).read_text())["nodes"]), 3)
        self.stop(tracker)

    def test_nothing_on_disk(self) -> None:
        """Without a state directory each run has a new key."""
        first, second = self.tracker(1), self.tracker(2)
        self.assertNotEqual(first.peer_id, second.peer_id)
        self.stop(first, second)

    def test_kept_port_taken(self) -> None:
        """
        A saved port that is in use is replaced for one run, with a warning that gives one
        piece of information; the next run uses the saved one again.
        """
        path = self.state_dir()
        first = self.tracker(state_dir=path)
        ports = self.ports()
        self.stop(first)
        reactor = self.net.reactor("10.0.0.1")
        taken = [
            reactor.listenUDP(ports["udp"], DatagramProtocol()),
            reactor.listenTCP(ports["tcp"], Factory()),
        ]
        second = self.tracker(state_dir=path)
        self.assertNotIn(second.dht.port, (0, ports["udp"]))
        place = second._listeners.listen_addresses()[0]
        self.assertNotIn(int(place.rpartition(":")[2]), (0, ports["tcp"]))
        self.assertEqual(len(self.warnings), 2)
        for warning, kept, used in (
            (self.warnings[0], ports["udp"], second.dht.port),
            (self.warnings[1], ports["tcp"], int(place.rpartition(":")[2])),
        ):
            self.assertRegex(
                warning,
                rf"\ACan't listen on \S+ \S+ port {kept}: Address already in use\. Using port {used} in this "
                rf"run; the next run will use {kept} if it is free\.\Z",
            )
        self.net.advance(301)
        for port in taken:
            port.stopListening()
        self.stop(second)
        saved = json.loads((path / PORTS_FILE).read_text())
        self.assertEqual((saved["dht"], saved["streams"]), (ports["udp"], ports["tcp"]))
        third = self.tracker(state_dir=path)
        self.assertEqual(self.ports(), ports)
        self.assertEqual(len(self.warnings), 2)
        self.stop(third)
        self.assert_nothing_left()

    def test_setting_replaces_kept_port(self) -> None:
        """A port in the configuration is kept for later runs without one."""
        path = self.state_dir()
        self.stop(self.tracker(state_dir=path))
        self.stop(self.tracker(state_dir=path, dht={"port": 7001}, listen=("10.0.0.1", 7002)))
        last = self.tracker(state_dir=path)
        self.assertEqual(self.ports(), {"udp": 7001, "tcp": 7002})
        self.stop(last)

    def test_explicit_port_taken(self) -> None:
        """
        A port in the configuration is required: if it is in use, there is a ListenError,
        the lock and all bound ports are released, and a later attempt may succeed.
        """
        path = self.state_dir()
        reactor = self.net.reactor("10.0.0.1")
        for kind in ("udp", "tcp"):
            taken = (
                reactor.listenUDP(7000, DatagramProtocol())
                if kind == "udp"
                else reactor.listenTCP(7000, Factory())
            )
            tracker = self.tracker(
                start=False,
                state_dir=path,
                dht={"port": 7000} if kind == "udp" else {},
                listen=("10.0.0.1", 7000 if kind == "tcp" else 0),
            )
            with self.assertRaises(ListenError):
                tracker.privilegedStartService()
            self.assertEqual(self.ports(), {kind: 7000})
            other = StateDirectory(path)
            other.lock()
            other.unlock()
            taken.stopListening()
            tracker.privilegedStartService()
            tracker.startService()
            self.assertEqual(self.ports()[kind], 7000)
            self.net.advance(1)
            self.assertEqual(len(self.of(tracker, DHTReady)), 1)
            self.stop(tracker)
        self.assert_nothing_left()

    def test_second_on_one_directory(self) -> None:
        """
        A second tracker on a state directory is refused until the first has stopped, before it
        reads anything: it neither moves a file of the first aside nor makes a key.
        """
        path = self.state_dir()
        first = self.tracker(1, state_dir=path)
        (path / KEY_FILE).unlink()
        for name in (PORTS_FILE, DHT_FILE):
            (path / name).write_text("{")
        files = sorted(path.iterdir())
        with self.assertRaises(StateError) as raised:
            self.tracker(2, state_dir=path)
        self.assertIn("in use", str(raised.exception))
        self.assertEqual((sorted(path.iterdir()), self.ports(2), self.warnings), (files, {}, []))
        self.stop(first)
        second = self.tracker(2, state_dir=path)
        self.stop(second)
        self.assert_nothing_left()

    def test_not_started(self) -> None:
        """A tracker that could not be made leaves no lock, nor does one that was only stopped."""
        path = self.state_dir()
        self.stop(self.tracker(state_dir=path, start=False))
        (path / DHT_FILE).mkdir()
        self.assertRaises(StateError, self.tracker, state_dir=path)
        (path / DHT_FILE).rmdir()
        self.stop(self.tracker(state_dir=path))

    def test_working_directory_changes(self) -> None:
        """A relative path keeps its meaning when the working directory changes."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder)
        tracker = self.tracker(state_dir=Path("state"))
        os.chdir("/")
        (folder / "state" / DHT_FILE).unlink()
        self.net.advance(1)
        self.stop(tracker)
        self.assertEqual(os.listdir(folder), ["state"])
        self.assertIn(DHT_FILE, os.listdir(folder / "state"))

    def test_no_working_directory(self) -> None:
        """A relative path in a directory that has been removed is a StateError."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder)
        folder.rmdir()
        self.assertRaises(StateError, self.tracker, state_dir=Path("state"))

    def test_damaged(self) -> None:
        """A state file that is not JSON, or of another version, is moved aside with a warning."""
        path = self.state_dir()
        first = self.tracker(state_dir=path)
        self.stop(first)
        for damage in ("{", "[]", '{"version": 99}', '{"version": 1, "dht": "x"}'):
            for name in (PORTS_FILE, DHT_FILE):
                (path / name).write_text(damage)
                self.warnings.clear()
                tracker = self.tracker(state_dir=path)
                self.assertEqual((tracker.peer_id, len(self.warnings)), (first.peer_id, 1), damage)
                self.assertEqual((path / f"{name}.damaged").read_text(), damage)
                self.stop(tracker)

    def test_refused_files(self) -> None:
        """A FIFO in place of any file is refused at once, when the tracker is created."""
        for name in (KEY_FILE, PORTS_FILE, DHT_FILE, "addresses.json", "pkarr.json", "lock"):
            path = self.state_dir()
            path.mkdir(parents=True, mode=0o700)
            os.mkfifo(path / name, 0o600)
            with self.assertRaises(StateError) as raised:
                self.tracker(state_dir=path, start=False)
            self.assertIn(f"{name} is a FIFO", str(raised.exception))

    def test_any_content(self) -> None:
        """
        Whatever the files contain, the tracker starts, with at most a warning for each; only
        a key that is unusable is an error.
        """
        path = self.state_dir()
        self.stop(self.tracker(state_dir=path))
        names = (PORTS_FILE, DHT_FILE, "addresses.json", "pkarr.json")
        good = {name: json.loads((path / name).read_text()) for name in names if (path / name).exists()}
        good[DHT_FILE]["nodes"] = [["61" * 20, "10.0.9.9", 1]]
        good["pkarr.json"] = {"version": 1, "seq": 5}
        peer = {"id": "61" * 32, "reached_at": 1, "addresses": [["streams", "10.0.9.9", 1]]}
        good["addresses.json"] = {"version": 1, "peers": [peer]}
        odd: list[Any] = [
            None,
            True,
            -1,
            1.5,
            10**400,
            1e308,
            "",
            "x",
            "\ud800",
            [],
            [[]],
            {},
            {"a": 1},
            "fe80::1%x",
            "1" * 5000,
        ]
        seed = 5
        rng = Random(seed)

        def mutated(value: Any) -> Any:
            if isinstance(value, list | dict) and value and rng.random() < 0.8:
                copy: Any = value.copy()
                at = rng.randrange(len(copy)) if isinstance(copy, list) else rng.choice(list(copy))
                copy[at] = mutated(copy[at])
                return copy
            return rng.choice(odd)

        for number in range(60):
            for name in names:
                (path / name).write_text(json.dumps(mutated(good[name])))
            try:
                tracker = self.tracker(state_dir=path, start=number % 10 == 0)
                self.net.advance(0.1)
                self.stop(tracker)
            except Exception as error:
                contents = {name: (path / name).read_text()[:300] for name in names if (path / name).exists()}
                raise AssertionError(f"seed {seed}, number {number}: {contents}") from error
        self.assert_nothing_left()

    def test_bad_key(self) -> None:
        """A key file that others can read, or that is invalid, is refused when the tracker is created."""
        path = self.state_dir()
        self.stop(self.tracker(state_dir=path))
        (path / KEY_FILE).chmod(0o644)
        with self.assertRaises(StateError) as raised:
            self.tracker(state_dir=path, start=False)
        self.assertIn("chmod 600", str(raised.exception))
        (path / KEY_FILE).chmod(0o600)
        (path / KEY_FILE).write_text("nonsense")
        with self.assertRaises(StateError):
            self.tracker(state_dir=path, start=False)

    def test_directory_vanishes(self) -> None:
        """A write error at the end is logged, and the tracker still stops."""
        path = self.state_dir()
        tracker = self.tracker(state_dir=path)
        self.net.advance(1)
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
        self.stop(tracker)
        self.assert_nothing_left()
