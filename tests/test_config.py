"""
Tests for settings, from TOML and from keyword arguments.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.config import (
    MAX_FILE_BYTES,
    PUBLIC_BOOTSTRAP,
    AddressesConfig,
    BubbleMergeConfig,
    Config,
    DHTConfig,
    IrohConfig,
    PublisherConfig,
    TopicTable,
    load_toml,
)
from dtt.dht.server.upload import UPLOAD_RATE
from dtt.errors import UsageError, WrongType
from dtt.net.host_port import parse_host_port


class HostPortTests(SynchronousTestCase):
    """
    Tests for L{parse_host_port}.
    """

    def test_names_and_literals(self) -> None:
        """
        Names, IPv4 literals and bracketed IPv6 literals are accepted, each with a port.
        """
        self.assertEqual(parse_host_port("router.example:6881"), ("router.example", 6881))
        self.assertEqual(parse_host_port("127.0.0.1:0"), ("127.0.0.1", 0))
        self.assertEqual(parse_host_port("[2001:db8::1]:65535"), ("2001:db8::1", 65535))

    def test_anything_else_is_refused(self) -> None:
        """
        A missing part, a port out of range and an unbracketed IPv6 address are refused, and
        the message repeats the text.
        """
        for text in ("", "host", "host:", ":1", "host:65536", "host:-1", "::1:80", "host:1x", "host:\u0661"):
            error = self.assertRaises(UsageError, parse_host_port, text)
            self.assertIn(repr(text), str(error))


class DefaultsTests(SynchronousTestCase):
    """
    Tests for the defaults of docs/protocol/records.md section 6.
    """

    def test_upstream_defaults(self) -> None:
        """
        A sample from every section has upstream's value.
        """
        config = Config()
        self.assertEqual(config.dht.bootstrap, PUBLIC_BOOTSTRAP)
        self.assertEqual((config.dht.retries, config.dht.get_timeout), (3, 10.0))
        self.assertEqual(config.bootstrap.max_bootstrap_records, 5)
        self.assertEqual(config.bootstrap.no_peers_retry_interval, 1.5)
        self.assertEqual((config.publisher.base_interval, config.publisher.max_jitter), (10.0, 50.0))
        self.assertEqual(config.bubble_merge.min_neighbors, 4)
        self.assertEqual(config.message_overlap_merge.max_join_peers, 2)
        self.assertEqual(config.timeouts.join_peer, 5.0)
        self.assertEqual(config.addresses, AddressesConfig(True, True, 3600.0, (), 300.0))

    def test_upload_rate(self) -> None:
        """
        The default upload rate is that of the DHT node, and rates too low for a response
        are refused.
        """
        self.assertEqual(DHTConfig().upload_rate, UPLOAD_RATE)
        self.assertRaises(UsageError, DHTConfig, upload_rate=0)
        self.assertRaises(UsageError, DHTConfig, upload_rate=float("inf"))

    def test_impossible_values_are_refused_at_once(self) -> None:
        """
        Intervals below 1 s, negative waits, ports out of range and non-numbers are refused
        by the constructor.
        """
        self.assertRaises(UsageError, PublisherConfig, base_interval=0.5)
        self.assertRaises(UsageError, BubbleMergeConfig, max_jitter=-1)
        self.assertRaises(UsageError, BubbleMergeConfig, max_jitter=float("nan"))
        self.assertRaises(UsageError, BubbleMergeConfig, max_jitter=float("inf"))
        self.assertRaises(UsageError, DHTConfig, port=65536)
        self.assertRaises(UsageError, AddressesConfig, pkarr_interval=59)
        self.assertRaises(UsageError, AddressesConfig, relay_interval=59)

    def test_relay_urls(self) -> None:
        """
        A relay URL is a base URL: C{http} or C{https}, a host, and optionally a port and a
        path. User and password would appear in events and logs; query and fragment would
        precede the id.
        """
        good = ("https://a.example", "http://127.0.0.1:3340/", "https://[::1]:1/", "https://a.example/pkarr/")
        for cls in (IrohConfig, AddressesConfig):
            self.assertEqual(cls(relays=good).relays, good)
            for bad in (
                *("", "a.example", "ftp://a/", "https://", "https://:1/", "https://a:0/", "https://a:65536/"),
                *(
                    "https://a b/",
                    "https://a\\b/",
                    "https://a\n/",
                    "https://\xe4/",
                    "https://[::1",
                    "https://a]/",
                ),
                *("https://u:p@a/", "https://u@a/", "https://a/?q", "https://a/#f", "https://a/" + 240 * "x"),
            ):
                with self.assertRaises(UsageError, msg=bad) as raised:
                    cls(relays=(bad,))
                self.assertIn("is not a relay URL (https://HOST/)", str(raised.exception))
                self.assertNotIn("u:p", str(raised.exception))


class TOMLTests(SynchronousTestCase):
    """
    Tests for L{load_toml}.
    """

    def write(self, text: str) -> Path:
        """
        Write a file that contains C{text}.
        """
        path = Path(self.mktemp())
        path.write_text(text, "utf-8")
        return path

    def refused(self, text: str) -> str:
        """
        Return the error message for a file that contains C{text}, after its name.
        """
        path = self.write(text)
        message = str(self.assertRaises(UsageError, load_toml, path))
        self.assertTrue(message.startswith(f"{path}: "), message)
        return message.removeprefix(f"{path}: ")

    def test_every_section(self) -> None:
        """
        All sections are read; missing keys keep their defaults.
        """
        config, topics = load_toml(
            self.write(
                """
                state_dir = "/var/lib/x"
                listen = "127.0.0.1:4433"
                require_secret = true
                max_connections = 1024
                port_mapping = false
                transport = ["quic", "streams"]
                [dht]
                port = 6881
                bind = "127.0.0.1"
                bootstrap = ["a.example:1", "[::1]:2"]
                get_timeout = 3
                [bootstrap]
                publish_record_on_startup = false
                [publisher]
                enabled = false
                [bubble_merge]
                min_neighbors = 2
                [message_overlap_merge]
                base_interval = 5.5
                [timeouts]
                broadcast = 1
                [addresses]
                pkarr = false
                relays = ["https://relay.example/pkarr"]
                relay_interval = 60
                [[topic]]
                name = "x"
                secret_file = "/etc/secret"
                [[topic]]
                name = "y"
                """
            )
        )
        self.assertEqual(config.state_dir, Path("/var/lib/x"))
        self.assertEqual(config.listen, ("127.0.0.1", 4433))
        self.assertEqual((config.require_secret, config.max_connections), (True, 1024))
        self.assertEqual((config.port_mapping, config.transport), (False, ("quic", "streams")))
        self.assertEqual(config.dht.bootstrap, (("a.example", 1), ("::1", 2)))
        self.assertEqual((config.dht.get_timeout, config.dht.put_timeout), (3, 10.0))
        self.assertFalse(config.bootstrap.publish_record_on_startup)
        self.assertFalse(config.publisher.enabled)
        self.assertEqual(config.bubble_merge.min_neighbors, 2)
        self.assertEqual(config.message_overlap_merge.base_interval, 5.5)
        self.assertEqual(config.timeouts.broadcast, 1)
        self.assertEqual(
            config.addresses,
            AddressesConfig(False, relays=("https://relay.example/pkarr",), relay_interval=60),
        )
        self.assertEqual(topics, (TopicTable("x", Path("/etc/secret")), TopicTable("y")))

    def test_an_empty_file_is_the_defaults(self) -> None:
        """
        An empty file yields the defaults.
        """
        self.assertEqual(load_toml(self.write("")), (Config(), ()))

    def test_unknown_keys(self) -> None:
        """
        The message names the key and the known keys.
        """
        self.assertEqual(
            self.refused("[timeouts]\njoin = 1"),
            "timeouts.join: unknown key; expected one of join_peer, broadcast, broadcast_neighbors",
        )
        self.assertIn(
            "nonsense: unknown key; expected one of state_dir, transport, listen",
            self.refused("nonsense = 1"),
        )
        self.assertTrue(self.refused("nonsense = 1").endswith(", topic"))
        self.assertNotIn("x" * 100, self.refused(f"{'x' * 5000} = 1"))
        self.assertIn("topic[0].secret: unknown", self.refused("[[topic]]\nname = 'x'\nsecret = 'y'"))

    def test_huge(self) -> None:
        """
        Numbers, values, nesting and files of any size are refused in a short message.
        """
        for text, expected in (
            (f"[dht]\nport = {'9' * 5000}", "not a TOML file"),
            (f"[dht]\nport = 0x{'f' * 5000}", "port: port a huge number is out of range; ports are 0..65535"),
            (f"[dht]\nretries = 0x{'f' * 5000}", "retries must be at most 1000000000"),
            (f"[dht]\nget_timeout = 0x{'f' * 5000}", "get_timeout must be at most"),
            ("[dht]\nget_timeout = 1e300", "get_timeout must be at most"),
            ("[dht]\nget_timeout = nan", "must be a finite number"),
            ("[dht]\nport = 70000", "dht.port: port 70000 is out of range; ports are 0..65535"),
            ('listen = "127.0.0.1:70000"', "port 70000 is out of range"),
            (f'[dht]\nbootstrap = ["{"x" * 5000}"]', "is not HOST:PORT"),
            (f'transport = ["{"x" * 5000}"]', "transport must be a list of"),
            (f"listen = {'[' * 5000}{']' * 5000}", "not a TOML file"),
            ("#" * (MAX_FILE_BYTES + 1), "this is not a configuration file"),
        ):
            message = self.refused(text)
            self.assertIn(expected, message)
            self.assertLess(len(message), 400)

    def test_wrong_types(self) -> None:
        """
        A wrong type is refused; the message says what was expected and what was found.
        """
        for text, message in (
            ("[dht]\nport = '1'", "dht.port: expected a whole number, not '1'"),
            ("[dht]\nport = true", "dht.port: expected a whole number, not True"),
            ("[dht]\nget_timeout = '1'", "dht.get_timeout: expected a number, not '1'"),
            ("[publisher]\nenabled = 1", "publisher.enabled: expected true or false, not 1"),
            ("dht = 1", "dht: expected a table, not 1"),
            ("transport = 'both'", "transport: expected a list of strings, not 'both'"),
            (
                "transport = ['both']",
                "transport must be a list of streams, quic, iroh, such as streams,quic; not 'both'",
            ),
            ("transport = []", "transport must name each transport once, such as streams,quic; not ''"),
            (
                "transport = ['quic', 'quic']",
                "transport must name each transport once, such as streams,quic; not 'quic,quic'",
            ),
            ("[iroh]\nrelays = 'a'", "iroh.relays: expected a list of strings, not 'a'"),
            ("[iroh]\nrelays = [1]", "iroh.relays: expected a list of strings, not [1]"),
            ("[iroh]\nrelays = ['a']", "iroh.relays: 'a' is not a relay URL (https://HOST/)"),
            (
                "[addresses]\nrelays = ['ftp://a/']",
                "addresses.relays: 'ftp://a/' is not a relay URL (https://HOST/)",
            ),
            ("listen = 1", 'listen: expected "HOST:PORT", not 1'),
            ("[dht]\nbootstrap = 'a:1'", "dht.bootstrap: expected a list of \"HOST:PORT\", not 'a:1'"),
            ("topic = 'x'", "topic: expected [[topic]] tables with name and secret_file, or ticket_file"),
            ("[[topic]]\nname = 1", "topic[0].name: expected a string, not 1"),
            ("state_dir = 1", "state_dir: expected a path (a string), not 1"),
        ):
            self.assertEqual(self.refused(text), message)

    def test_impossible_values(self) -> None:
        """
        An impossible value is refused; the message names the section, the key and the
        bound.
        """
        self.assertEqual(
            self.refused("max_connections = 7"),
            "max_connections must be a finite number of at least 8, not 7",
        )
        self.assertEqual(
            self.refused("[publisher]\nbase_interval = 0.1"),
            "publisher.base_interval must be a finite number of at least 1, not 0.1",
        )
        self.assertIn("dht.bootstrap: 'a' is not HOST:PORT", self.refused("[dht]\nbootstrap = ['a']"))
        self.assertEqual(
            self.refused("state_dir = '~no such user/x'"),
            "state_dir: can't find the home directory in '~no such user/x'",
        )
        self.assertEqual(
            self.refused('state_dir = "a\\u0000b"'), "state_dir: expected a path (a string), not 'a\\x00b'"
        )

    def test_a_topic_needs_a_name(self) -> None:
        """
        A topic with only a secret is refused.
        """
        self.assertEqual(
            self.refused("[[topic]]\nsecret_file = 'x'"), "topic[0].name: missing; give name, or ticket_file"
        )

    def test_not_toml_and_not_there(self) -> None:
        """
        A file that can't be read or parsed is named in the message.
        """
        self.assertIn("not a TOML file", self.refused("= 1"))
        error = self.assertRaises(UsageError, load_toml, Path("does-not-exist.toml"))
        self.assertEqual(str(error), "does-not-exist.toml: can't be read: No such file or directory")

    def test_special_files(self) -> None:
        """
        A FIFO is not waited for, and a device or a large file is not read to its end.
        """
        fifo, large = Path(self.mktemp()), Path(self.mktemp())
        os.mkfifo(fifo)
        large.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
        for path, kind in (
            (fifo, "is a FIFO"),
            (large, "larger than"),
            (Path("/dev/zero"), "is a device"),
            (Path("/"), "is a directory"),
        ):
            error = self.assertRaises(UsageError, load_toml, path)
            self.assertIn(str(path), str(error))
            self.assertIn(kind, str(error))
        self.assertIn("not a TOML file", self.refused("a = " + "[" * 100_000))

    def test_editors_of_windows(self) -> None:
        """
        A byte order mark and Windows' line ends make no difference.
        """
        path = Path(self.mktemp())
        path.write_bytes(b"\xef\xbb\xbf[dht]\r\nport = 7\r\n")
        self.assertEqual(load_toml(path)[0].dht.port, 7)

    def test_paths(self) -> None:
        """
        An empty path is invalid, and there is no home directory if $HOME is empty.
        """
        for text in ("", "  "):
            self.assertEqual(
                self.refused(f'state_dir = "{text}"'), f"state_dir: expected a path (a string), not {text!r}"
            )
            self.assertIn(
                "topic[0].secret_file: expected a path",
                self.refused(f'[[topic]]\nname = "x"\nsecret_file = "{text}"'),
            )
            self.assertIn("must be a path", str(self.assertRaises(UsageError, Config, state_dir=text)))
        for home in ("", "relative"):
            self.patch(os, "environ", {**os.environ, "HOME": home})
            self.assertIn("can't find the home directory in '~/x'", self.refused("state_dir = '~/x'"))


class KeywordTests(SynchronousTestCase):
    """
    Tests for settings passed by a program that mypy may not have checked.
    """

    def test_state_dir_as_text(self) -> None:
        """The state directory may be a string."""
        self.assertEqual(Config(state_dir="/var/lib/me").state_dir, Path("/var/lib/me"))

    def test_not_a_host_and_port(self) -> None:
        """A value that is not a (host, port) pair is refused by the constructor, by name."""
        wrong: Any = "0.0.0.0:0"
        for name, make in (
            ("listen", lambda: Config(listen=wrong)),
            ("listen", lambda: Config(listen=("0.0.0.0", wrong))),
            ("listen", lambda: IrohConfig(listen=wrong)),
            ("bootstrap", lambda: DHTConfig(bootstrap=(wrong,))),
            ("bootstrap", lambda: DHTConfig(bootstrap=wrong)),
        ):
            error = self.assertRaises(UsageError, make)
            self.assertRegex(str(error), rf'\A{name} must be .*\("HOST", PORT\)[^,]*, not ')


class TypesTests(SynchronousTestCase):
    """
    Settings of a wrong type.
    """

    def test_refused(self) -> None:
        """
        A setting of a wrong type is refused where it is given, by name; the error is a
        ValueError and a TypeError.
        """
        any_type: Any
        for name, expected, make, any_type in (
            ("dht", "a DHTConfig", Config, {"port": 1}),
            ("publisher", "a PublisherConfig", Config, None),
            ("enabled", "True or False", PublisherConfig, "no"),
            ("enabled", "True or False", BubbleMergeConfig, 1),
            ("port", "a whole number", DHTConfig, "6881"),
            ("port", "a whole number", DHTConfig, True),
            ("port", "a whole number", DHTConfig, 1.0),
            ("upload_rate", "a number", DHTConfig, "fast"),
            ("upload_rate", "a number", DHTConfig, True),
            ("bind6", "a string", DHTConfig, None),
            ("bootstrap", 'a tuple whose elements are each ("HOST", PORT)', DHTConfig, [["a", 1]]),
            ("bootstrap", 'a tuple whose elements are each ("HOST", PORT)', DHTConfig, {("a", 1)}),
            ("listen", '("HOST", PORT)', Config, ("a", 1, 2)),
            ("listen", '("HOST", PORT) or None', IrohConfig, "127.0.0.1:1"),
            ("relays", "a tuple whose elements are each a string", AddressesConfig, "https://a/"),
            ("transport", "a tuple of names, or one string with commas", Config, 5),
            ("transport", "a tuple whose elements are each a string or None", Config, ("streams", 5)),
            ("state_dir", "a path", Config, b"/var/lib/me"),
        ):
            error = self.assertRaises(WrongType, make, **{name: any_type})
            self.assertTrue(str(error).startswith(f"{name} must be {expected}, not "), str(error))
            self.assertIsInstance(error, ValueError)
            self.assertIsInstance(error, TypeError)

    def test_long_values(self) -> None:
        """A value is shown shortened."""
        wrong: Any = "x" * 10_000
        error = self.assertRaises(WrongType, PublisherConfig, enabled=wrong)
        self.assertLess(len(str(error)), 150)

    def test_accepted(self) -> None:
        """
        Whole numbers are numbers, and lists tuples; optional settings may be None; there may
        be no transport.
        """
        self.assertEqual(PublisherConfig(base_interval=5).base_interval, 5)
        self.assertIsNone(Config(transport=None).transport)
        self.assertEqual(DHTConfig(bootstrap=[("a", 1)]), DHTConfig(bootstrap=(("a", 1),)))
        self.assertEqual(AddressesConfig(relays=["https://a/"]), AddressesConfig(relays=("https://a/",)))
        self.assertEqual(Config(transport=()).transport, ())
        self.assertEqual(IrohConfig(listen=("127.0.0.1", 1)).listen, ("127.0.0.1", 1))
