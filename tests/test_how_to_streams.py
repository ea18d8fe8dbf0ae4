"""
The code of how-to pages, run on an internet in memory.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.trial.unittest import SynchronousTestCase

from tests.test_code_blocks import python
from tests.tracker.common import without_iroh
from tests.tracker.internet import Internet, Member


class PageTestCase(SynchronousTestCase):
    """
    Two members, and the blocks of a page.
    """

    page: str

    def setUp(self) -> None:
        without_iroh(self)
        self.internet = Internet(3)
        self.addCleanup(self.internet.stop)
        self.members = [self.internet.start(self.internet.member()) for _ in range(2)]
        self.assertTrue(self.internet.until(lambda: all(member.neighbors for member in self.members), 30))
        self.output = io.StringIO()
        self.addCleanup(self.internet.advance, 1)

    def run_block(self, number: int, member: Member, **names: Any) -> dict[str, Any]:
        """
        Run a block for one of the members.
        """
        names |= {"tracker": member.tracker, "topic": member.topic, "print": self.say}
        exec(compile(python(self.page)[number], self.page, "exec"), names)
        return names

    def say(self, *words: object) -> None:
        """
        What C{print} in the blocks does.
        """
        with contextlib.redirect_stdout(self.output):
            print(*words)


class ApplicationStreamsTests(PageTestCase):
    """
    docs/how-to/application-streams.md.
    """

    page = "docs/how-to/application-streams.md"

    def test_file(self) -> None:
        """
        A file is offered and fetched, and refused when it is offered no more.
        """
        one, other = self.members
        folder = Path(self.mktemp())
        folder.mkdir()
        path, copy = folder / "file", folder / "copy"
        path.write_bytes(Random(1).randbytes(1_000_000))
        self.run_block(0, one, path=path)
        names = self.run_block(1, other, copy=copy, ConnectionDone=ConnectionDone)
        fetching = Deferred.fromCoroutine(names["fetch"]())
        self.internet.advance(20)
        self.successResultOf(fetching)
        self.assertEqual(copy.read_bytes(), path.read_bytes())
        asked = f"asked by {other.tracker.peer_id.hex()}"
        self.assertEqual(self.output.getvalue().splitlines(), [asked, "complete"])
        services = one.tracker._app_streams._used().multiplexer.services
        services._ports[b"file/1"].stopListening()
        again = Deferred.fromCoroutine(names["fetch"]())
        self.internet.advance(5)
        self.successResultOf(again)
        self.assertIn("no file: the peer does not serve this name", self.output.getvalue())

    def test_calls(self) -> None:
        """
        A member calls another one.
        """
        one, other = self.members
        self.run_block(2, one)
        names = self.run_block(2, other)
        called = names["call"](one.tracker.peer_id, 21)
        self.internet.advance(5)
        self.assertEqual(self.successResultOf(called), 42)


class SignedMessagesTests(PageTestCase):
    """
    docs/how-to/signed-messages.md.
    """

    page = "docs/how-to/signed-messages.md"

    def test_topic(self) -> None:
        """
        Each member hears the other one, with its name.
        """
        for member in self.members:
            self.run_block(0, member)
            self.internet.advance(1)
        self.run_block(0, self.members[0])
        self.internet.advance(1)
        one, other = (member.tracker.peer_id.hex()[:10] for member in self.members)
        # The second one was not listening when the first one spoke for the first time.
        expected = [f"{other} said b'hello'", f"{one} said b'hello'"]
        self.assertEqual(self.output.getvalue().splitlines(), expected)

    def test_codec(self) -> None:
        """
        The codec finds the author, and the replay.
        """
        self.run_block(1, self.members[0])
        self.assertEqual(self.output.getvalue().splitlines(), ["replay"])
