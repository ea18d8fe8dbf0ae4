"""
The Rust crates' results for the inputs in tests/vectors, and for data made by dtt
(C{rust/src/bin/vectors.rs}).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from dtt.identity import PeerKey
from dtt.records.record import ENTROPY_BYTES, GossipContent, Record, encrypt
from dtt.records.topic import Slot, TopicId, encryption_key, initial_secret_hash
from dtt.wire.addresses import IROH, STREAMS, PeerAddress
from tests.interop.rooms import missing, rust
from tests.interop.support import NO_INTEROP

VECTORS = Path(__file__).parents[1] / "vectors"


def load(name: str) -> Any:
    """
    Load a file of vectors.
    """
    return json.loads((VECTORS / f"{name}.json").read_text())


def remade(**cases: Any) -> dict[str, list[dict[str, Any]]]:
    """
    The crates' results for some cases.
    """
    given: dict[str, Any] = {"slots": [], "records": [], "pkarr": [], **cases}
    done = subprocess.run(
        [rust("vectors")], input=json.dumps(given), capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    made: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)
    return made


class VectorTests(SynchronousTestCase):
    """
    The vectors match the crates' current results.
    """

    skip = NO_INTEROP

    def check(self, cases: list[dict[str, Any]], made: list[dict[str, Any]]) -> None:
        """
        Check that every value in the result is in the case.
        """
        self.assertEqual(len(cases), len(made))
        for case, values in zip(cases, made, strict=True):
            self.assertEqual({name: case[name] for name in values}, values)

    def test_slots(self) -> None:
        """
        Keys, salts and targets match.
        """
        slots = load("slots")
        self.check(slots, remade(slots=slots)["slots"])

    def test_pkarr(self) -> None:
        """
        DNS packets match byte for byte; signed ones are accepted.
        """
        packets = load("pkarr")
        self.check(packets, remade(pkarr=packets)["pkarr"])

    def test_records(self) -> None:
        """
        Gossip records and their signatures match byte for byte; encrypted ones are
        opened.
        """
        records = load("records")["gossip"]
        made = remade(records=records)["records"]
        for case, values in zip(records, made, strict=True):
            self.assertEqual(values.pop("opened"), [case["record"]] * len(case["encrypted"]))
            for content in values.pop("contents"):
                self.assertEqual(content, {name: case[name] for name in content})
        self.check(records, made)


class OursTests(SynchronousTestCase):
    """
    Data made by dtt is read by the crates.
    """

    skip = NO_INTEROP

    def test_record(self) -> None:
        """
        A record with addresses is opened and verified; the crate reads its peers and
        hashes.
        """
        secret, key = os.urandom(20), PeerKey.generate()
        slot = Slot(TopicId.from_name("ours"), 29_752_345)
        peers, hashes = [os.urandom(32) for _ in range(5)], [os.urandom(32) for _ in range(3)]
        addresses = (PeerAddress(STREAMS, "192.0.2.7", 4433), PeerAddress(IROH, "2001:db8::1", 4434))
        content = GossipContent(tuple(peers), tuple(hashes), addresses)
        record = Record.sign(key, slot, content.encode())
        slot_key = encryption_key(slot, initial_secret_hash(secret))
        sealed = encrypt(record, slot_key.public, os.urandom(ENTROPY_BYTES))
        entries = {
            "active_peers": [peer.hex() for peer in peers],
            "last_message_hashes": [each.hex() for each in [*hashes, bytes(32), bytes(32)]],
        }
        case = {
            "topic_id": slot.topic_id.hex(),
            "unix_minute": slot.minute,
            "initial_secret": secret.hex(),
            "publisher_seed": "01" * 32,
            "encrypted": [sealed.hex()],
            **entries,
        }
        (made,) = remade(records=[case])["records"]
        self.assertEqual(made["opened"], [record.encode().hex()])
        self.assertEqual(made["contents"], [entries])


class SkipTests(SynchronousTestCase):
    """
    Missing requirements: the reason of the skip names them.
    """

    skip = NO_INTEROP

    def test_no_cargo(self) -> None:
        """
        Without C{cargo} there are no Rust peers.
        """
        self.patch(shutil, "which", lambda program: None)
        with self.assertRaises(SkipTest) as caught:
            rust.__wrapped__("vectors")
        self.assertIn("cargo is not installed", str(caught.exception))

    def test_not_root(self) -> None:
        """
        Only root can create rooms.
        """
        self.patch(os, "geteuid", lambda: 1000)
        self.assertIn("need root", str(missing.__wrapped__()))
