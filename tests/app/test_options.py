"""
Tests for L{dtt.app.options}.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from dtt.app.options import TrackerOptions, default_state_dir
from dtt.config import PUBLIC_BOOTSTRAP, AddressesConfig, Config, DiscoveryConfig, IrohConfig
from dtt.errors import StateError, UsageError
from dtt.state import MAX_SECRET_BYTES
from dtt.transport.iroh import bindings as iroh_bindings
from tests.tracker.common import collect_warnings


class StateDirTests(SynchronousTestCase):
    """
    Tests for L{default_state_dir}.
    """

    def test_systemd(self) -> None:
        """systemd's directory has priority; of several, the first one."""
        environ = {"STATE_DIRECTORY": "/var/lib/dtt:/var/lib/other", "XDG_STATE_HOME": "/x"}
        self.assertEqual(default_state_dir(environ), Path("/var/lib/dtt"))

    def test_xdg(self) -> None:
        """Next is the XDG state directory if it is absolute, as XDG requires; else its default."""
        self.assertEqual(default_state_dir({"XDG_STATE_HOME": "/x"}), Path("/x/dtt"))
        for environ in ({}, {"XDG_STATE_HOME": ""}, {"XDG_STATE_HOME": "relative"}, {"STATE_DIRECTORY": ""}):
            self.assertEqual(default_state_dir(environ), Path.home() / ".local/state/dtt")

    def test_no_home(self) -> None:
        """Without a home directory, as in a container, there is no default."""
        self.patch(Path, "home", classmethod(no_home))
        self.assertIsNone(default_state_dir({}))
        self.assertEqual(default_state_dir({"XDG_STATE_HOME": "/x"}), Path("/x/dtt"))

    def test_empty_home(self) -> None:
        """An empty or relative $HOME is not a home directory."""
        for home in ("", ".", "relative"):
            self.assertIsNone(default_state_dir({"HOME": home}))
        self.assertEqual(default_state_dir({"HOME": "/h"}), Path("/h/.local/state/dtt"))

    def test_home_of_another(self) -> None:
        """For another user, our environment says nothing about the home directory; systemd does."""
        environ = {"XDG_STATE_HOME": "/x", "HOME": "/h"}
        self.assertEqual(default_state_dir(environ, Path("/other")), Path("/other/.local/state/dtt"))
        self.assertEqual(default_state_dir({**environ, "STATE_DIRECTORY": "/s"}, Path("/other")), Path("/s"))


def no_home(cls: type[Path]) -> Path:
    """Raise, like Path.home() for a user that the system does not know."""
    raise RuntimeError("Could not determine home directory.")


class TrackerOptionsTests(SynchronousTestCase):
    """
    Tests for L{TrackerOptions}.
    """

    def parse(self, *arguments: str) -> TrackerOptions:
        """Parse C{arguments}."""
        options = TrackerOptions()
        options.parseOptions(list(arguments))
        return options

    def load(self, *arguments: str, default: Path | None = None) -> Config:
        """Return the settings."""
        return self.parse(*arguments).load(default)[0]

    def file(self, content: str | bytes, mode: int = 0o600) -> Path:
        """Write a file with C{content}."""
        path = Path(self.mktemp())
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        return path

    def test_defaults(self) -> None:
        """
        Without options the settings are the defaults; without a default state directory
        nothing is stored on disk.
        """
        self.assertEqual(self.load(), Config())
        self.assertEqual(self.load(default=Path("/d")).state_dir, Path("/d"))

    def test_command_line(self) -> None:
        """Each option sets its setting."""
        config = self.load(
            *("--state-dir", "/s", "--dht-port", "7001", "--listen", "192.0.2.7:7002"),
            *("--bootstrap", "a.example:1", "--bootstrap", "[2001:db8::1]:2"),
            default=Path("/d"),
        )
        self.assertEqual(config.state_dir, Path("/s"))
        self.assertEqual((config.dht.port, config.listen), (7001, ("192.0.2.7", 7002)))
        self.assertEqual((config.transport, config.iroh), (None, IrohConfig()))
        self.assertEqual(config.dht.bootstrap, (("a.example", 1), ("2001:db8::1", 2)))
        self.assertEqual((config.dht.bind6, self.load("--bind6", "::").dht.bind6), ("auto", "::"))
        path = self.file('[dht]\nbind6 = "::1"\n')
        self.assertEqual(self.load("--config", str(path)).dht.bind6, "::1")
        self.assertEqual(self.load("--config", str(path), "--bind6", "::").dht.bind6, "::")

    def test_switches(self) -> None:
        """The services can be disabled individually."""
        config = self.load("--no-publish")
        self.assertEqual((config.bootstrap.max_bootstrap_records, config.publisher.enabled), (0, False))
        self.assertTrue(config.bubble_merge.enabled and config.message_overlap_merge.enabled)
        config = self.load("--no-bubble-merge")
        self.assertEqual((config.bubble_merge.enabled, config.message_overlap_merge.enabled), (False, True))
        config = self.load("--no-overlap-merge")
        self.assertEqual((config.bubble_merge.enabled, config.message_overlap_merge.enabled), (True, False))
        self.assertFalse(config.require_secret)
        self.assertTrue(self.load("--require-secret").require_secret)
        self.assertTrue(config.port_mapping)
        self.assertFalse(self.load("--no-port-mapping").port_mapping)
        path = self.file("port_mapping = false\n")
        self.assertFalse(self.load("--config", str(path)).port_mapping)
        path = self.file("port_mapping = true\n")
        self.assertFalse(self.load("--config", str(path), "--no-port-mapping").port_mapping)

    def test_discovery(self) -> None:
        """Channels can be switched on the command line and in the file."""
        self.assertEqual(self.load().discovery, DiscoveryConfig())
        path = str(self.file('[discovery]\nsealed = false\nannounce_peer = "always"\n'))
        self.assertEqual(self.load("--config", path).discovery, DiscoveryConfig(False, "always"))
        self.assertEqual(
            self.load("--config", path, "--announce-peer", "never").discovery, DiscoveryConfig(False, "never")
        )
        self.assertFalse(self.load("--no-sealed").discovery.sealed)
        self.assertTrue(self.load().discovery.lan)
        self.assertFalse(self.load("--no-lan").discovery.lan)
        error = self.assertRaises(usage.UsageError, self.load, "--announce-peer", "sometimes")
        self.assertIn("--announce-peer: must be one of never, alone, always", str(error))
        path = str(self.file('[discovery]\nannounce_peer = "sometimes"\n'))
        refused = self.assertRaises(UsageError, self.load, "--config", path)
        self.assertIn("discovery.announce_peer must be", str(refused))

    def test_command_line_wins(self) -> None:
        """The command line takes precedence over the file; other settings are those of the file."""
        path = self.file(
            'state_dir = "/f"\nlisten = "192.0.2.1:1"\n'
            '[dht]\nport = 5\nbootstrap = ["f.example:1"]\nretries = 7\n'
            "[publisher]\nenabled = true\nbase_interval = 20\n"
            '[[topic]]\nname = "t"\n'
        )
        config, topics = self.parse("--config", str(path)).load(Path("/d"))
        self.assertEqual((config.state_dir, config.listen), (Path("/f"), ("192.0.2.1", 1)))
        self.assertEqual((config.dht.port, config.dht.bootstrap), (5, (("f.example", 1),)))
        self.assertEqual([topic.name for topic in topics], ["t"])
        config = self.load(
            *("--config", str(path), "--state-dir", "/s", "--listen", "192.0.2.2:2"),
            *("--dht-port", "0", "--bootstrap", "c.example:2", "--no-publish"),
        )
        self.assertEqual((config.state_dir, config.listen), (Path("/s"), ("192.0.2.2", 2)))
        self.assertEqual(
            (config.dht.port, config.dht.bootstrap, config.dht.retries), (0, (("c.example", 2),), 7)
        )
        self.assertEqual((config.publisher.enabled, config.publisher.base_interval), (False, 20))

    def test_wrong(self) -> None:
        """Invalid values are refused, with the option and what it expects."""
        for arguments, expected in (
            (("--dht-port", "65536"), "0..65535"),
            (("--dht-port", "-1"), "0..65535"),
            (("--dht-port", "\u0661"), "0..65535"),
            (("--dht-port", "70000"), "port 70000 is out of range"),
            (("--dht-port", "9" * 5000), "is out of range"),
            (("--listen", "127.0.0.1:70000"), "port 70000 is out of range"),
            (("--bootstrap", "host:" + "9" * 5000), "is out of range"),
            (("--bootstrap", "host:0"), "port 0"),
            (("--bootstrap", "a b:1"), "HOST:PORT"),
            (("--bootstrap", "[x]:1"), "HOST:PORT"),
            (("--bootstrap", "[10.0.0.1]:1"), "HOST:PORT"),
            (("--bootstrap", f"{'x' * 254}:1"), "HOST:PORT"),
            (("--bootstrap", "\udcff:1"), "HOST:PORT"),
            (("--bootstrap", "https://a:1"), "HOST:PORT"),
            (("--bind6", "10.0.0.1"), "'10.0.0.1' is neither auto, off nor an IPv6 address"),
            (("--bind6", ""), "'' is neither auto, off nor an IPv6 address"),
            (("--listen", "7000"), "HOST:PORT"),
            (("--listen", "::1:7000"), "HOST:PORT"),
            (("--listen", "iroh:x"), "HOST:PORT"),
            (("--bootstrap", "host"), "HOST:PORT"),
            (("--relay", "host"), "URL"),
            (("--pkarr-relay", "host"), "URL"),
            (("--transport", "tcp"), "streams, quic, iroh"),
            (("--iroh-preset", "n1"), "n0"),
        ):
            with self.assertRaises(usage.UsageError, msg=str(arguments)) as raised:
                self.parse(*arguments)
            self.assertIn(expected, str(raised.exception))
            self.assertTrue(str(raised.exception).startswith(f"{arguments[0]}: "), str(raised.exception))

    def test_transports(self) -> None:
        """
        Each transport has its own address; the iroh options set its table, and the command
        line takes precedence over the file.
        """
        self.patch(iroh_bindings, "unavailable_reason", lambda: None)
        path = self.file('transport = ["iroh"]\n[iroh]\npreset = "n0"\nrelays = ["https://a.example/"]\n')
        config = self.load("--config", str(path))
        self.assertEqual((config.transport, config.iroh.preset), (("iroh",), "n0"))
        self.assertEqual(config.iroh.relays, ("https://a.example/",))
        config = self.load(
            *("--config", str(path), "--transport", "streams,iroh", "--iroh-preset", "none"),
            *("--listen", "streams:127.0.0.1:1", "--listen", "iroh:[::1]:2"),
            *("--relay", "https://b.example/", "--relay", "http://[::1]:3340/"),
        )
        self.assertEqual((config.transport, config.listen), (("streams", "iroh"), ("127.0.0.1", 1)))
        self.assertEqual(
            config.iroh, IrohConfig(("::1", 2), "none", ("https://b.example/", "http://[::1]:3340/"))
        )

    def test_transports_wrong(self) -> None:
        """
        Contradictory options and invalid transports, presets and relays are refused.
        """
        self.patch(iroh_bindings, "unavailable_reason", lambda: None)
        for arguments, expected in (
            (
                ("--transport", "both"),
                "--transport: must be a list of streams, quic, iroh, such as streams,quic",
            ),
            (("--transport", ""), "such as streams,quic; not ''"),
            (("--transport", "streams,"), "such as streams,quic; not ''"),
            (("--transport", "quic,quic"), "must name each transport once"),
            (("--iroh-preset", "n1"), "--iroh-preset: must be one of none, n0, not 'n1'"),
            (("--iroh-preset", ""), "--iroh-preset: must be one of none, n0, not ''"),
            (("--relay", "relay.example"), "--relay: 'relay.example' is not a relay URL"),
            (("--relay", ""), "--relay: '' is not a relay URL"),
            (("--relay", "https://[/"), "not a relay URL"),
            (("--transport", "streams", "--listen", "iroh:127.0.0.1:0"), "need iroh in --transport"),
            (("--transport", "streams", "--relay", "https://a.example/"), "need iroh in --transport"),
            (("--transport", "streams", "--iroh-preset", "none"), "need iroh in --transport"),
            (("--listen", "iroh:localhost:0"), "IP"),
            (("--transport", "iroh", "--listen", "127.0.0.1:7000"), "--listen iroh:HOST:PORT"),
            (("--transport", "iroh", "--listen", "streams:127.0.0.1:0"), "--listen iroh:HOST:PORT"),
        ):
            with self.assertRaises((UsageError, usage.UsageError), msg=str(arguments)) as raised:
                self.load(*arguments)
            self.assertIn(expected, str(raised.exception))
        with self.assertRaises(usage.UsageError) as twice:
            self.parse("--listen", "127.0.0.1:1", "--listen", "streams:127.0.0.1:2")
        self.assertIn("more than one address for streams", str(twice.exception))

    def test_addresses(self) -> None:
        """
        The DHT can be excluded from the publication and lookup of addresses, and pkarr
        relays added; --no-publish also disables the publication of addresses.
        """
        path = self.file('[addresses]\nrelays = ["https://a.example/"]\npkarr_interval = 600\n')
        config = self.load("--config", str(path), "--no-pkarr").addresses
        self.assertEqual(config, AddressesConfig(False, True, 600, ("https://a.example/",)))
        config = self.load(
            "--config",
            str(path),
            "--pkarr-relay",
            "http://b.example",
            "--pkarr-relay",
            "https://c.example/pkarr",
        ).addresses
        self.assertEqual(config.relays, ("http://b.example", "https://c.example/pkarr"))
        self.assertTrue(config.pkarr)
        config = self.load("--no-publish").addresses
        self.assertEqual((config.publish, config.pkarr), (False, True))
        with self.assertRaises(usage.UsageError) as raised:
            self.load("--pkarr-relay", "relay.example")
        self.assertIn("--pkarr-relay: 'relay.example' is not a relay URL", str(raised.exception))

    def test_iroh_not_installed(self) -> None:
        """
        Without the iroh package, its options say how to install it.
        """
        self.patch(iroh_bindings, "unavailable_reason", lambda: "")
        path = str(self.file('[iroh]\nrelays = ["https://a.example/"]\n'))
        for arguments in (
            ("--transport", "iroh"),
            ("--transport", "streams,iroh", "--relay", "https://a.example/"),
            ("--relay", "https://a.example/"),
            ("--iroh-preset", "n0"),
            ("--listen", "iroh:127.0.0.1:0"),
            ("--config", path),
        ):
            with self.assertRaises(UsageError, msg=str(arguments)) as raised:
                self.load(*arguments)
            self.assertIn("pip install 'distributed-topic-tracker[iroh]'", str(raised.exception))
        self.assertIsNone(self.load().transport)

    def test_iroh_table_without_iroh(self) -> None:
        """
        A file that configures iroh but excludes it is refused; the command line may exclude
        it.
        """
        self.patch(iroh_bindings, "unavailable_reason", lambda: None)
        path = self.file('transport = ["streams"]\n[iroh]\npreset = "n0"\n')
        with self.assertRaises(UsageError) as raised:
            self.load("--config", str(path))
        self.assertIn(f"{path}: [iroh] needs iroh in transport", str(raised.exception))
        self.assertEqual(self.load("--config", str(path), "--transport", "streams").transport, ("streams",))

    def test_streams_port_without_streams(self) -> None:
        """
        A file that sets a port of streams but excludes streams is refused; the host alone
        is also used for iroh.
        """
        self.patch(iroh_bindings, "unavailable_reason", lambda: None)
        path = self.file('transport = ["iroh"]\nlisten = "127.0.0.1:7000"\n')
        with self.assertRaises(UsageError) as raised:
            self.load("--config", str(path))
        self.assertEqual(
            str(raised.exception),
            f"{path}: listen: is for streams; for iroh set it under [iroh]",
        )
        for transport in ("streams,iroh", "iroh"):
            self.assertEqual(
                self.load("--config", str(path), "--transport", transport).listen, ("127.0.0.1", 7000)
            )
        path = self.file('transport = ["iroh"]\nlisten = "127.0.0.1:0"\n')
        self.assertEqual(self.load("--config", str(path)).listen, ("127.0.0.1", 0))

    def test_listen_on_a_name(self) -> None:
        """The address to listen on must be an IP, because our records contain it."""
        with self.assertRaises(UsageError) as raised:
            self.load("--listen", "localhost:0")
        self.assertIn("IP", str(raised.exception))

    def test_public_bootstrap(self) -> None:
        """Without --bootstrap the public hosts are used."""
        self.assertEqual(self.load("--dht-port", "1").dht.bootstrap, PUBLIC_BOOTSTRAP)

    def test_options_are_not_shared(self) -> None:
        """Two parsers do not share lists."""
        self.parse("--bootstrap", "a.example:1")
        self.assertEqual(TrackerOptions()["bootstrap"], [])

    def test_secret_file(self) -> None:
        """One final newline is dropped, all other bytes are kept; without the option there is no secret."""
        for content, secret in (
            (b"s", b"s"),
            (b"s\n", b"s"),
            (b"s\n\n", b"s\n"),
            (b" s \r\n", b" s \r"),
            (b"", b""),
            (b"\xff\0", b"\xff\0"),
        ):
            self.assertEqual(self.parse("--secret-file", str(self.file(content))).read_secret(), secret)
        self.assertIsNone(self.parse().read_secret())

    def test_secret_file_of_others(self) -> None:
        """
        A file that group or others can read is refused with the chmod command; a missing
        file is refused, too.
        """
        for mode in (0o640, 0o604, 0o660):
            path = self.file(b"s", mode)
            with self.assertRaises(StateError) as raised:
                self.parse("--secret-file", str(path)).read_secret()
            self.assertIn("chmod 600", str(raised.exception))
        with self.assertRaises(StateError):
            self.parse("--secret-file", "/nonexistent/secret").read_secret()

    def test_errors_name_their_option(self) -> None:
        """An error of a file names the option or the setting that names the file."""
        for option, call in (
            ("secret-file", lambda options: options.read_secret()),
            ("config", lambda options: options.load(None)),
        ):
            for path in ("/nonexistent/file", "/", "/dev/zero"):
                with self.assertRaises((StateError, UsageError)) as raised:
                    call(self.parse(f"--{option}", path))
                self.assertRegex(str(raised.exception), rf"\A--{option}: [^\n]*{path}[^\n]*\Z")
        for option in ("secret-file", "config", "state-dir"):
            for empty in ("", " "):
                error = self.assertRaises(usage.UsageError, self.parse, f"--{option}", empty)
                self.assertEqual(str(error), f"--{option}: expected a path, not {empty!r}")
        config = self.file('[[topic]]\nname = "y"\nsecret_file = "/nonexistent/file"')
        options = self.parse("--config", str(config))
        (table,) = options.load(None)[1]
        error = self.assertRaises(StateError, options.read_secret_of, table)
        self.assertIn(f"{config}: secret_file of topic 'y': can't read /nonexistent", str(error))

    def test_unusual_secret(self) -> None:
        """What an editor has added to a secret is used, with a warning that does not show the secret."""
        warnings: list[str] = []
        collect_warnings(self, warnings)
        path = self.file(b"xyzzy\r\n")
        self.assertEqual(self.parse("--secret-file", str(path)).read_secret(), b"xyzzy\r")
        config = self.file(f'[[topic]]\nname = "y"\nsecret_file = "{path.absolute()}"')
        options = self.parse("--config", str(config))
        self.assertEqual(options.read_secret_of(options.load(None)[1][0]), b"xyzzy\r")
        self.assertEqual(len(warnings), 2)
        for warning, setting in zip(
            warnings, ("--secret-file: ", f"{config}: secret_file of topic 'y'"), strict=True
        ):
            self.assertTrue(warning.startswith(setting), warning)
            self.assertIn("carriage return", warning)
            self.assertNotIn("xyzzy", warning)

    def test_no_stdin(self) -> None:
        """Without standard input there is an error, not a traceback."""
        self.patch(sys, "stdin", None)
        error = self.assertRaises(StateError, self.parse("--secret-file", "-").read_secret)
        self.assertIn("standard input", str(error))

    def test_secret_on_stdin(self) -> None:
        """C{-} is standard input; an input that is too large is refused, not truncated."""
        for given, secret in ((b"s\n", b"s"), (b"x" * MAX_SECRET_BYTES, b"x" * MAX_SECRET_BYTES)):
            self.patch(sys, "stdin", _Stdin(given))
            self.assertEqual(self.parse("--secret-file", "-").read_secret(), secret)
        self.patch(sys, "stdin", _Stdin(b"x" * (MAX_SECRET_BYTES + 1)))
        with self.assertRaises(StateError):
            self.parse("--secret-file", "-").read_secret()

    def test_help(self) -> None:
        """Every option has a help text."""
        text = " ".join(str(TrackerOptions()).split())
        for option in (
            *("no-publish", "no-bubble-merge", "no-overlap-merge", "secret-file", "state-dir"),
            *("require-secret", "dht-port", "listen", "bootstrap", "config", "version"),
            *("transport", "iroh-preset", "relay", "no-port-mapping"),
            *("no-sealed", "announce-peer", "no-lan"),
        ):
            self.assertRegex(text, rf"--{option}=? \w+", option)

    def test_help_has_no_gaps(self) -> None:
        """An explanation that spans several lines of code is one paragraph."""
        self.assertNotRegex(str(TrackerOptions()), r"[.,;)] {2,}\w")


class _Stdin:
    """Standard input with the given bytes."""

    def __init__(self, data: bytes) -> None:
        self.buffer: Any = io.BytesIO(data)
