"""
Tests for the commands C{dtt dht ...}.
"""

from __future__ import annotations

from dtt.cli.commands import run
from dtt.cli.dht import parse_id, shared_bits, shown_address, shown_version
from dtt.errors import UsageError
from tests.cli.common import CommandTestCase


class ArgumentTests(CommandTestCase):
    """
    Tests for wrong arguments.
    """

    def test_wrong(self) -> None:
        """Each is one line and exit code 2."""
        for words in (
            "dht ping",
            "dht ping x",
            "dht ping x:0",
            "dht ping 1.2.3.4:99999",
            "dht ping 1.2.3.4:1 2.3.4.5:1",
            "dht ping 1.2.3.4:1 --count 0",
            "dht lookup xyz",
            "dht lookup " + "ab" * 19,
            "dht lookup " + "ab" * 20 + " x",
            "dht get",
            "dht get " + "ab" * 21,
            "dht get " + "ab" * 20 + " --raw --json",
            "dht get " + "ab" * 20 + " --salt " + "x" * 65,
            "dht put",
            "dht put - --salt x",
            "dht put - --seq 1",
            "dht peers",
            "dht peers " + "ab" * 20 + " --announce 70000",
            "dht peers " + "ab" * 20 + " --bootstrap x:0",
            "dht peers " + "ab" * 20 + " --timeout -1",
            "testnet 1",
            "testnet x",
            "testnet 5 6",
            "testnet 5 --port x",
        ):
            self.err.truncate(0)
            self.err.seek(0)
            self.assertEqual(run(words.split()), 2, words)
            self.assertRegex(self.err.getvalue(), r"\Adtt: [^\n]+\n\Z", words)

    def test_texts(self) -> None:
        """Ids, addresses and versions."""
        self.assertEqual(parse_id("X", "ab" * 20), b"\xab" * 20)
        for wrong in ("", "ab", "xy" * 20, "ab " * 20, "ab" * 32):
            self.assertRaises(UsageError, parse_id, "X", wrong)
        self.assertEqual(shared_bits(bytes(20), bytes(20)), 160)
        self.assertEqual(shared_bits(b"\x80" + bytes(19), bytes(20)), 0)
        self.assertEqual((shown_address("1.2.3.4", 5), shown_address("::1", 5)), ("1.2.3.4:5", "[::1]:5"))
        self.assertEqual(
            [shown_version(v) for v in (b"LT\x02\x00", b"", b"\x00\x01")], ["LT 2.0", "", "0001"]
        )
