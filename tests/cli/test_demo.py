"""
Tests for the parts of L{dtt.cli.demo} that don't need processes.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python import usage
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dtt.cli.demo import SPEAK_INTERVAL, TIME_LIMIT, Demo, DemoOptions, Member, MemberProcess
from dtt.cli.lines import ChatLine

IDS = ["a" * 64, "b" * 64, "c" * 64]


class MemberTests(SynchronousTestCase):
    """
    Tests for L{Member.problem}.
    """

    def test_problem(self) -> None:
        """The first problem is described; there is none if the member has joined and heard all others."""
        all_ids = frozenset(IDS)
        member = Member(1, 0.0)
        self.assertEqual(member.problem(all_ids), "member 1 did not start")
        member.peer_id = IDS[0]
        self.assertIn("member 1 did not join", member.problem(all_ids))
        member.joined = 1.0
        self.assertEqual(member.problem(all_ids), "member 1 heard nothing from bbbbbbbbbb, cccccccccc")
        member.heard = {IDS[1], IDS[2]}
        self.assertEqual(member.problem(all_ids), "")
        member.heard.add(IDS[0])
        self.assertEqual(member.problem(all_ids), "")
        member.ended = "exit code 1"
        self.assertEqual(member.problem(all_ids), "member 1 ended early (exit code 1)")

    def test_errors(self) -> None:
        """If there is a problem, the last lines of standard error are added."""
        member = Member(2, 0.0, errors=["one", "two", "three", "four"])
        self.assertEqual(member.problem(frozenset()), "member 2 did not start | two | three | four")


class MemberProcessTests(SynchronousTestCase):
    """
    Tests for L{MemberProcess}.
    """

    def test_lines(self) -> None:
        """Output is split into lines, however it is chunked."""
        lines: list[bytes] = []
        errors: list[str] = []
        process = MemberProcess(lines.append, errors.append)
        for data in (b'{"a"', b": 1}\n{}\n{", b"}\n"):
            process.outReceived(data)
        process.errReceived(b"warning\n\xff\n")
        self.assertEqual((lines, errors), ([b'{"a": 1}', b"{}", b"{}"], ["warning", "\ufffd"]))

    def test_end(self) -> None:
        """The exit is reported."""
        process = MemberProcess(lambda line: None, lambda error: None)
        process.processEnded(Failure(ProcessTerminated(1)))
        self.assertIn("exit code 1", self.successResultOf(process.ended))
        process = MemberProcess(lambda line: None, lambda error: None)
        process.processEnded(Failure(ProcessDone(0)))
        self.successResultOf(process.ended)


class Quiet(Demo):
    """
    A demo in which the test simulates the members.
    """

    def __init__(self, members: int, keep: bool = False) -> None:
        self.shown: list[str] = []
        self.clock = Clock()
        self._reactor = self.clock
        self._wanted = members
        self._keep = keep
        self._show = self.shown.append
        self._start = 0.0
        self._members = []
        self._speaking = self._summed_up = False
        self._starting = None
        self._calls = []
        self._bootstrap = "127.0.0.1:1"
        self._folder = SimpleNamespace(name="/folder")  # type: ignore[assignment]
        self._verdict = Deferred()
        self.written: list[tuple[int, bytes]] = []

    def begin(self, number: int) -> Member:
        """Add a started member."""
        member = Member(number, self.clock.seconds())
        member.process = SimpleNamespace(write=lambda data: self.written.append((number, data)))
        self._members.append(member)
        return member

    def report(self, member: Member, name: str, **fields: Any) -> None:
        """Simulate an event of a member."""
        self._event(member, json.loads(json.dumps({"event": name, "time": self.clock.seconds(), **fields})))

    def started(self, member: Member) -> None:
        """Simulate that a member has started."""
        self.report(
            member, "node.started", peer_id=IDS[member.number - 1], dht_port=5, listen=["127.0.0.1:6"]
        )

    def hears(self, member: Member, *numbers: int) -> None:
        """Simulate that a member receives lines of others."""
        for number in numbers:
            line = ChatLine(IDS[number - 1], 1, f"hello from {number}")
            self.report(member, "message", content=line.encode().decode())


class DemoTests(SynchronousTestCase):
    """
    Tests for the timeline and the result.
    """

    def joined(self, demo: Quiet) -> list[Member]:
        """Return a demo with all members joined."""
        members = [demo.begin(number) for number in range(1, demo._wanted + 1)]
        for member in members:
            demo.started(member)
            demo.clock.advance(0.25)
            demo.report(member, "topic.joined")
        return members

    def test_all_well(self) -> None:
        """
        When all members have joined they speak; when every member has heard every other,
        the summary says so, with exit code 0.
        """
        demo = Quiet(3)
        members = self.joined(demo)
        self.assertEqual([number for number, _ in demo.written], [1, 2, 3])
        demo.hears(members[0], 2, 3)
        demo.hears(members[1], 1, 3, 2)
        demo.hears(members[2], 1)
        self.assertNoResult(demo._verdict)
        demo.hears(members[2], 2)
        self.assertEqual(self.successResultOf(demo._verdict), 0)
        self.assertEqual(demo.shown[-1], "3 of 3 joined, first after 0.25 s; every member heard every other")

    def test_timeline(self) -> None:
        """Each event is a line with the time since the start; text from others is sanitised."""
        demo = Quiet(2)
        one, two = demo.begin(1), demo.begin(2)
        demo.started(one)
        demo.started(two)
        demo.clock.advance(1.5)
        demo.report(one, "dht.ready", nodes=8)
        demo.report(one, "addresses.published", store="dht", addresses=1)
        demo.report(one, "record.published", minute=1, stored=2)
        demo.report(one, "record.found", minute=1, publisher=IDS[1], source="fetcher")
        demo.report(one, "peer.dialled", peer=IDS[1])
        demo.report(one, "peer.failed", peer="f" * 64, reason="timed out")
        demo.report(one, "neighbor.up", peer=IDS[1])
        demo.report(one, "neighbor.down", peer=IDS[1])
        demo.report(one, "message", content=ChatLine(IDS[1], 1, "\x1b[2J").encode().decode())
        demo.report(one, "message", content="no chat line")
        demo.report(one, "message", content_hex="ff")
        demo.report(one, "something.new")
        self.assertEqual(
            demo.shown[2:],
            [
                f"   1.500 s  member 1  {what}"
                for what in (
                    "DHT ready, 8 nodes known",
                    "1 addresses published at dht",
                    "record stored on 2 nodes",
                    "found the record of member 2",
                    "dialled member 2",
                    "could not reach ffffffffff: timed out",
                    "neighbour up: member 2",
                    "neighbour down: member 2",
                    "received a message from member 2: \ufffd[2J",
                    "something.new",
                )
            ],
        )

    def test_speaks_again(self) -> None:
        """All members speak again until every member has heard every other."""
        demo = Quiet(2)
        members = self.joined(demo)
        self.assertEqual(len(demo.written), 2)
        demo.clock.advance(SPEAK_INTERVAL)
        self.assertEqual(len(demo.written), 4)
        demo.hears(members[0], 2)
        demo.hears(members[1], 1)
        demo.clock.advance(10 * SPEAK_INTERVAL)
        self.assertEqual(len(demo.written), 4)

    def test_time_is_up(self) -> None:
        """After the time limit, the demo reports which members failed and why, with exit code 1."""
        demo = Quiet(3)
        one, two = demo.begin(1), demo.begin(2)
        demo.started(one)
        demo.report(one, "topic.joined")
        two.errors.append("a warning")
        demo.clock.advance(TIME_LIMIT)
        demo._conclude()
        self.assertEqual(self.successResultOf(demo._verdict), 1)
        self.assertEqual(
            demo.shown[-3:],
            [
                "1 of 3 joined, first after 0.00 s; not every member heard every other",
                "member 2 did not start | a warning",
                "member 3 was not started",
            ],
        )

    def test_member_ends(self) -> None:
        """If a member ends early, the demo ends."""
        demo = Quiet(2)
        members = self.joined(demo)
        demo._gone(members[1], "exit code 3")
        self.assertEqual(self.successResultOf(demo._verdict), 1)
        self.assertTrue(any("member 2 ended early (exit code 3)" in line for line in demo.shown))
        self.successResultOf(members[1].gone)

    def test_keep(self) -> None:
        """With --keep it continues after the summary until Ctrl-C, and shows how to add a member."""
        demo = Quiet(2, keep=True)
        members = self.joined(demo)
        demo.hears(members[0], 2)
        demo.hears(members[1], 1)
        self.assertNoResult(demo._verdict)
        self.assertIn("dtt chat demo --bootstrap 127.0.0.1:1", demo.shown[-1])
        self.assertIn("2 of 2 joined", demo.shown[-2])
        demo.hears(members[1], 1)
        self.assertIn("dtt chat demo", demo.shown[-1])
        demo.stop()
        self.assertEqual(self.successResultOf(demo._verdict), 0)

    def test_interrupted(self) -> None:
        """
        Ctrl-C before success yields exit code 1, with or without --keep, and the problems
        are reported once.
        """
        for keep in (False, True):
            demo = Quiet(2, keep)
            self.joined(demo)
            demo.stop()
            demo.stop()
            self.assertEqual(self.successResultOf(demo._verdict), 1)
            self.assertIn("member 2 heard nothing from aaaaaaaaaa", demo.shown[-1])

    def test_interrupted_early(self) -> None:
        """Ctrl-C while the DHT still starts ends the start, and is all that is reported."""
        demo = Quiet(2)
        cancelled: list[object] = []
        demo._starting = Deferred(cancelled.append)
        demo._starting.addErrback(lambda _: None)
        demo.stop()
        demo.stop()
        self.assertEqual(self.successResultOf(demo._verdict), 1)
        self.assertEqual((demo.shown, len(cancelled)), (["interrupted"], 1))

    def test_keep_and_a_member_ends(self) -> None:
        """A member that ends after the summary is reported, and yields exit code 1."""
        demo = Quiet(2, keep=True)
        members = self.joined(demo)
        demo.hears(members[0], 2)
        demo.hears(members[1], 1)
        demo._gone(members[1], "exit code 7")
        self.assertIn("member 2  ended (exit code 7)", demo.shown[-1])
        demo.stop()
        self.assertEqual(self.successResultOf(demo._verdict), 1)

    def test_options(self) -> None:
        """The options are numbers with a minimum and a maximum."""
        options = DemoOptions()
        options.parseOptions(["--members", "5", "--dht-nodes", "2", "--keep"])
        self.assertEqual((options["members"], options["dht-nodes"], options["keep"]), (5, 2, 1))
        for arguments in (
            ["--members", "1"],
            ["--members", "101"],
            ["--dht-nodes", "0"],
            ["--dht-nodes", "1001"],
            ["--members", "x"],
            ["extra"],
        ):
            with self.assertRaises(usage.UsageError):
                DemoOptions().parseOptions(arguments)
