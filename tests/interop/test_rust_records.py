"""
Discovery without gossip beside the Rust crate C{distributed-topic-tracker}: its
C{RecordPublisher} with a content type of the program's own, unmodified.
"""

from __future__ import annotations

import sys
from functools import partial

from twisted.internet.defer import Deferred

from dtt.wire.postcard import encode_bytes, encode_varint
from tests.interop.actors import Actor
from tests.interop.rooms import rust
from tests.interop.stage import PATIENCE, Stage, StageCase


def content(name: str, port: int) -> str:
    """
    The postcard encoding of the Rust program's type, C{(String, u16)}, as hex.
    """
    return (encode_bytes(name.encode()) + encode_varint(port)).hex()


def _has_found(actor: Actor, expected: tuple[str, str]) -> bool:
    return expected in {(found["publisher"], found["content"]) for found in actor.reported("found")}


class RustRecordsTests(StageCase):
    """
    A publisher of each kind, and another dtt one.
    """

    async def _find(self, stage: Stage) -> None:
        peer = stage._start(
            "rust",
            "rust",
            rust("record-peer"),
            stage.topic,
            "--secret-file",
            stage.secret_file,
            "--name",
            "printer",
            "--port",
            "631",
        )
        ours = [
            stage._start(
                name,
                "python",
                sys.executable,
                "-m",
                "tests.interop.python_discoverer",
                stage.topic,
                "--secret-file",
                stage.secret_file,
                "--content",
                content(name, port),
            )
            for name, port in (("scanner", 300), ("plotter", 65535))
        ]
        await stage.become(
            "all have started", lambda: all(each.reported("node.started") for each in (peer, *ours)), PATIENCE
        )
        ids = {each.name: each.reported("node.started")[0]["peer_id"] for each in (peer, *ours)}
        await stage.become(
            "the Rust program finds both of ours",
            lambda: (
                {
                    (ids["scanner"], "scanner", 300),
                    (ids["plotter"], "plotter", 65535),
                }
                <= {(each["publisher"], each["name"], each["port"]) for each in peer.reported("found")}
            ),
            2 * PATIENCE,
        )
        expected = {
            "rust": (ids["rust"], content("printer", 631)),
            "scanner": (ids["scanner"], content("scanner", 300)),
            "plotter": (ids["plotter"], content("plotter", 65535)),
        }
        for each in ours:
            for name, record in expected.items():
                if name != each.name:
                    await stage.become(f"{each.name} finds {name}", partial(_has_found, each, record))
        assert not any(found["name"] == "printer" for found in peer.reported("found")), "it finds itself"
        # Of each publisher and content, ours are told once.
        for each in ours:
            found = [(one["publisher"], one["content"]) for one in each.reported("found")]
            assert len(found) == len(set(found)) == 2, found

    def test_libtorrent(self) -> Deferred[None]:
        """
        Over libtorrent's nodes, each finds the others' contents, and decodes them.
        """
        return self.play(self._find, ["libtorrent"])

    def test_others(self) -> Deferred[None]:
        """
        The same over mainline servers, on which each publication of the Rust program
        replaces the records of ours (docs/protocol/dht.md section 4, writer rule 8), and
        over dtt nodes.
        """
        return self.play(self._find, ["mainline", "dtt"])
