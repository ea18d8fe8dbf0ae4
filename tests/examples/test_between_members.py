"""
Tests for the examples with signed messages and with streams, in a swarm in memory.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from random import Random

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import StreamRefused
from dtt.testing.swarm import VirtualSwarm
from tests.examples import load


class SignedChatTests(SynchronousTestCase):
    """
    Tests for examples/signed_chat.py.
    """

    def test_chat(self) -> None:
        """
        Everyone hears what the others say, with the id of who said it; what another member
        repeats, or has not signed, is not heard.
        """
        module = load("signed_chat")
        with VirtualSwarm(members=3, seed=1) as swarm:
            shown: list[list[str]] = [[], [], []]
            chats = [
                module.SignedChat(topic, f"name{number}", shown[number].append)
                for number, topic in enumerate(swarm.topics)
            ]
            swarm.advance(20)
            chats[0].say("hello\x1b[31m")
            swarm.advance(2)
            author = swarm.trackers[0].peer_id.hex()[:10]
            expected = [f"name0 ({author}): hello?[31m"]
            self.assertEqual(shown, [[], expected, expected])
            (envelope,) = swarm.heard(1)
            swarm.advance(100)  # the swarm has forgotten it, the signature is still fresh
            swarm.topics[1].broadcast_neighbors(envelope)
            swarm.topics[1].broadcast(b"name0\0not signed")
            swarm.topics[1].broadcast(envelope[:-1] + b"?")
            swarm.advance(2)
            self.assertEqual(shown, [[], expected, expected])


class FileTests(SynchronousTestCase):
    """
    Tests for examples/file_over_stream.py.
    """

    def test_file(self) -> None:
        """
        A file arrives complete; who serves none refuses.
        """
        module = load("file_over_stream")
        folder = Path(self.mktemp())
        folder.mkdir()
        data = Random(1).randbytes(300_000)
        (folder / "file").write_bytes(data)
        with VirtualSwarm(members=2, seed=1) as swarm:
            tracker, topic = swarm.trackers[1], swarm.topics[1]
            early = Deferred.fromCoroutine(module.fetch(tracker, topic, folder / "nothing"))
            swarm.advance(20)
            self.failureResultOf(early, StreamRefused)
            swarm.trackers[0].server_endpoint(module.NAME).listen(module.Offers(folder / "file"))
            fetching = Deferred.fromCoroutine(module.fetch(tracker, topic, folder / "copy"))
            swarm.advance(20)
            self.assertEqual(self.successResultOf(fetching), sha256(data).hexdigest())
        self.assertEqual((folder / "copy").read_bytes(), data)
