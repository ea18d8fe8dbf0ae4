"""
Tests that the program in docs/how-to/asyncio.md works.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt import Config, aio
from dtt.testing.fake_tracker import FakeTracker
from tests.test_docs import page

PEER = b"p" * 32


def run_program(
    case: SynchronousTestCase, code: str, messages: Sequence[tuple[bytes, bytes]]
) -> tuple[list[bytes], str, bytes]:
    """
    Run a program that joins "garden party", with a tracker without a network: a neighbour
    comes and speaks; the tracker stops once the program has sent something.

    @param messages: what arrives, and from whom.
    @return: what the program has sent and printed, and its peer id.
    """
    fake = FakeTracker()
    sent: list[bytes] = []

    def act() -> None:
        topic = fake.topic("garden party")
        case.assertEqual(topic.secret, b"between us")
        topic.up(PEER)
        for content, peer in messages:
            topic.receive(content, peer)
        asyncio.get_running_loop().call_soon(stop)

    def stop() -> None:
        topic = fake.topic("garden party")
        if topic.sent:
            sent.extend(topic.sent)
            fake.stopService()
        else:
            asyncio.get_running_loop().call_soon(stop)

    @contextlib.asynccontextmanager
    async def tracker(config: Config) -> AsyncIterator[aio.AsyncTracker]:
        fake.startService()
        asyncio.get_running_loop().call_soon(act)
        yield aio.AsyncTracker(fake, None)

    case.patch(aio, "tracker", tracker)
    output = io.StringIO()
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(output):
        exec(compile(code, "program", "exec"), names)
    return sent, output.getvalue(), fake.peer_id


class DocsTests(SynchronousTestCase):
    """
    The program.
    """

    def test_program(self) -> None:
        """
        It waits for a neighbour, greets, prints what it hears, and ends with the topic.
        """
        (code,) = re.findall(r"```python\n(.*?)```", page("how-to/asyncio.md"), re.DOTALL)
        sent, output, own = run_program(self, code, [(b"hello", PEER)])
        self.assertEqual(sent, [b"hello from " + own.hex().encode()])
        self.assertEqual(output, f"b'hello' through {PEER.hex()}\n")
