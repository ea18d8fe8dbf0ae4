"""
The options that C{twistd dtt} and C{dtt chat} share.

The command line takes precedence over the TOML file of C{--config}.  A secret is
never an option itself: it comes from a file or from standard input.
"""

from __future__ import annotations

import getopt
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from attrs import evolve, field, frozen
from twisted.logger import Logger
from twisted.python import usage

from dtt import __version__
from dtt.config import IROH_PRESETS, TRANSPORTS, Config, IrohConfig, TopicTable, check_relay_url, load_toml
from dtt.errors import DTTError, UsageError
from dtt.net.host_port import parse_host_port
from dtt.records.topic import TopicId
from dtt.state import read_secret

_log = Logger()

T = TypeVar("T")


@frozen(slots=True)
class TopicSettings:
    """
    A topic to join.

    @ivar name: the topic as the operator wrote it.
    @ivar topic_id: its id, 32 bytes.
    @ivar secret: its secret, any bytes; C{None}: none was given.
    """

    name: str
    topic_id: TopicId
    secret: bytes | None = field(repr=False)


def default_state_dir(environ: Mapping[str, str]) -> Path | None:
    """
    Return the default state directory of a service: the first directory of
    systemd's C{$STATE_DIRECTORY}, else C{dtt} in the XDG state directory.

    @param environ: the environment variables.
    @return: the directory; C{None} if it would be in a home directory and there
        is none.
    """
    under_systemd = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if under_systemd:
        return Path(under_systemd)
    base = environ.get("XDG_STATE_HOME", "")
    try:
        return (Path(base) if os.path.isabs(base) else Path.home() / ".local" / "state") / "dtt"
    except RuntimeError:
        return None


def options_first(parser: usage.Options, arguments: list[str]) -> list[str]:
    """
    Return C{arguments} with all options first.  C{usage.Options} itself accepts no
    options after a positional argument.

    @raise usage.UsageError: an option is unknown, or lacks its value.
    """
    try:
        options, rest = getopt.gnu_getopt(arguments, parser.shortOpt, parser.longOpt)
    except getopt.GetoptError as error:
        raise usage.UsageError(str(error)) from None
    first: list[str] = []
    for option, value in options:
        if option.startswith("--"):
            first.append(f"{option}={value}" if f"{option[2:]}=" in parser.longOpt else option)
        else:
            first.extend((option, value) if f"{option[1:]}:" in parser.shortOpt else (option,))
    return [*first, "--", *rest]


class VersionedOptions(usage.Options):
    """
    Base class of all options: C{--version} prints the version of dtt, and C{--help}
    shows the docstring of each option's method as one paragraph.
    """

    def __init__(self) -> None:
        super().__init__()
        # Otherwise Twisted wraps docstrings including their indentation.
        self.docs = {option: " ".join((doc or "").split()) for option, doc in self.docs.items()}

    def opt_version(self) -> None:
        """Print the version and exit."""
        print(f"dtt {__version__.public()}")
        raise SystemExit(0)


class CommandOptions(VersionedOptions):
    """
    Options of a command: may follow the positional arguments, and all their errors
    are usage errors.
    """

    def parseOptions(self, options: list[str] | None = None) -> None:
        """
        Parse the options.

        @raise usage.UsageError: an option is invalid.
        """
        try:
            super().parseOptions(None if options is None else options_first(self, options))
        except DTTError as error:
            raise usage.UsageError(str(error)) from None
        except usage.UsageError as error:
            # Twisted prefixes the message of our parse functions with this.
            message = str(error).removeprefix("Parameter type enforcement failed: ")
            raise usage.UsageError(message) from None

    def parseArgs(self, *arguments: str) -> None:
        """
        Reject positional arguments.  Commands that take some override this.

        @raise usage.UsageError: there is a positional argument.
        """
        if arguments:
            raise usage.UsageError(f"unexpected argument {arguments[0][:80]!r}; see --help")


def value_of(option: str, parse: Callable[[str], T]) -> Callable[[str], T]:
    """
    Wrap a parse function such that its errors name the option.

    @param option: the name of the option, without dashes.
    @param parse: parses the value, or raises ValueError.
    @return: a function that parses the value, or raises UsageError.
    """

    def parse_value(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise UsageError(f"--{option}: {error}") from None

    return parse_value


def port_number(text: str) -> int:
    """
    Parse a UDP or TCP port.

    @raise ValueError: it is not in 0..65535.
    """
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise ValueError(f"{text[:80]!r} is not a port, 0..65535")
    return int(text)


def one_of(allowed: Sequence[str]) -> Callable[[str], str]:
    """
    Return a parse function for an option with a fixed set of values.

    @param allowed: the values.
    @return: a function that returns its argument, or raises ValueError if it is
        not one of C{allowed}.
    """

    def check(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}, not {text[:80]!r}")
        return text

    return check


def relay_url(text: str) -> str:
    """
    Parse the base URL of a relay.

    @raise UsageError: it is not a relay URL.
    """
    check_relay_url(text)
    return text


class BootstrapOptions(CommandOptions):
    """
    Base class of options with C{--bootstrap}.
    """

    def __init__(self) -> None:
        super().__init__()
        self["bootstrap"] = []

    def opt_bootstrap(self, address: str) -> None:
        """HOST:PORT of a DHT node to start from, instead of the public ones; may be repeated."""
        self["bootstrap"].append(value_of("bootstrap", parse_host_port)(address))


class TrackerOptions(BootstrapOptions):
    """
    Options from which a L{Config<dtt.config.Config>} is made.
    """

    optFlags = [
        ["no-publish", None, "Publish neither records nor addresses: find others without being found."],
        [
            "no-pkarr",
            None,
            "Don't use the DHT for addresses: neither publish ours under our peer id, nor look up those of "
            "others.",
        ],
        ["no-bubble-merge", None, "Don't search for other bubbles while there are few neighbours."],
        ["no-overlap-merge", None, "Don't search for members that receive other messages than we do."],
    ]
    optParameters = [
        [
            "secret-file",
            None,
            None,
            "File with the secret of the topics on the command line; one final newline is dropped. It must "
            "not be accessible to other users (chmod 600). For twistd dtt, - is standard input. Without "
            "this option the secret is empty: anyone who knows or guesses the name of the topic can read "
            "its records and join.",
        ],
        [
            "state-dir",
            None,
            None,
            "Directory for the key, the ports, the known DHT nodes and the addresses of members. Default of "
            "twistd dtt: $STATE_DIRECTORY, else dtt in the XDG state directory; of dtt chat: none.",
        ],
        [
            "dht-port",
            None,
            None,
            "UDP port of the DHT node; 0: any port at the first start, which later starts reuse.",
            value_of("dht-port", port_number),
        ],
        [
            "transport",
            None,
            None,
            "How members connect: streams (TCP, dtt only), iroh (QUIC, also with Rust peers) or both. "
            "Default: both if the iroh package is installed "
            "(pip install 'distributed-topic-tracker[iroh]'), else streams.",
            value_of("transport", one_of(TRANSPORTS)),
        ],
        [
            "iroh-preset",
            None,
            None,
            "none: no third-party servers (the default); n0: the relays, DNS and pkarr publishing of n0, "
            "which most Rust programs use and which help behind NATs.",
            value_of("iroh-preset", one_of(IROH_PRESETS)),
        ],
        ["config", None, None, "TOML file with settings; the command line takes precedence."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = {}
        self["relay"] = []
        self["pkarr-relay"] = []

    def opt_listen(self, address: str) -> None:
        """
        streams:HOST:PORT or iroh:HOST:PORT on which other members connect to us (an IP address of this
        machine; TCP for streams, UDP for iroh); port 0: any port at the first start, which later starts
        reuse. Without a prefix it is streams. May be given once for each transport. Default:
        streams:0.0.0.0:0, and for iroh any port of the same host.
        """
        prefix, colon, rest = address.partition(":")
        transport = prefix if colon and prefix in ("streams", "iroh") else "streams"
        if transport in self["listen"]:
            raise usage.UsageError(f"--listen: more than one address for {transport}")
        host_port = rest if transport == prefix else address
        self["listen"][transport] = value_of("listen", parse_host_port)(host_port)

    def opt_relay(self, url: str) -> None:
        """URL of your own iroh relay, instead of the preset's; may be repeated."""
        self["relay"].append(value_of("relay", relay_url)(url))

    def opt_pkarr_relay(self, url: str) -> None:
        """
        URL of a pkarr relay at which to publish our addresses and look up those of others, in addition to
        the DHT; may be repeated. Default: none.
        """
        self["pkarr-relay"].append(value_of("pkarr-relay", relay_url)(url))

    def load(self, default_state_dir: Path | None) -> tuple[Config, tuple[TopicTable, ...]]:
        """
        Combine the settings of the TOML file and of the command line.

        @param default_state_dir: the state directory if neither names one; C{None}:
            none.
        @return: the settings, and the topics of the file.
        @raise UsageError: the file can't be used, options contradict each other, or
            a transport is not installed.
        """
        config, tables = (Config(), ()) if self["config"] is None else load_toml(Path(self["config"]))
        iroh_in_file, port_in_file = config.iroh != IrohConfig(), config.listen[1] != 0
        state_dir = self["state-dir"]
        config = evolve(
            config,
            state_dir=Path(state_dir) if state_dir else config.state_dir or default_state_dir,
            transport=self["transport"] or config.transport,
            listen=self["listen"].get("streams", config.listen),
            iroh=evolve(
                config.iroh,
                listen=self["listen"].get("iroh", config.iroh.listen),
                preset=self["iroh-preset"] or config.iroh.preset,
                relays=tuple(self["relay"]) or config.iroh.relays,
            ),
            dht=evolve(
                config.dht,
                port=config.dht.port if self["dht-port"] is None else self["dht-port"],
                bootstrap=tuple(self["bootstrap"]) or config.dht.bootstrap,
            ),
            addresses=evolve(
                config.addresses,
                pkarr=config.addresses.pkarr and not self["no-pkarr"],
                relays=tuple(self["pkarr-relay"]) or config.addresses.relays,
            ),
        )
        self._check_transports(config.transport, iroh_in_file, port_in_file)
        if self["no-publish"]:
            config = evolve(
                config,
                bootstrap=evolve(config.bootstrap, max_bootstrap_records=0),
                publisher=evolve(config.publisher, enabled=False),
                addresses=evolve(config.addresses, publish=False),
            )
        if self["no-bubble-merge"]:
            config = evolve(config, bubble_merge=evolve(config.bubble_merge, enabled=False))
        if self["no-overlap-merge"]:
            config = evolve(config, message_overlap_merge=evolve(config.message_overlap_merge, enabled=False))
        return config, tables

    def _check_transports(self, transport: str | None, iroh_in_file: bool, port_in_file: bool) -> None:
        """
        Check that no setting of a transport would be ignored silently.

        @param transport: the configured transport.
        @param iroh_in_file: whether the TOML file configures iroh.
        @param port_in_file: whether the TOML file sets a port of streams.
        @raise UsageError: a transport is not installed, or a setting is for a
            transport that is not used.
        """
        # Imported here because it loads TLS, which `dtt node` avoids: see dtt.cli.node.
        from dtt.tracker.transports import transport_names
        from dtt.transport.iroh import bindings as iroh_bindings

        names = transport_names(transport)
        if "streams" not in names and "streams" in self["listen"]:
            raise UsageError(
                "--listen without iroh: is for streams; with --transport iroh use --listen iroh:HOST:PORT"
            )
        if "streams" not in names and port_in_file and self["transport"] is None:
            raise UsageError(
                f"{self['config']}: listen: is for streams; with transport iroh set it under [iroh]"
            )
        if "iroh" in names:
            return
        if self["relay"] or self["iroh-preset"] or "iroh" in self["listen"]:
            given, required = "--listen iroh:, --relay and --iroh-preset need", "--transport iroh or both"
        elif iroh_in_file and self["transport"] is None:
            given, required = f"{self['config']}: [iroh] needs", "transport iroh or both"
        else:
            return
        if transport is None:
            required = (
                f"the iroh package{iroh_bindings.unavailable_reason() or ''}: {iroh_bindings.HOW_TO_INSTALL}"
            )
        raise UsageError(f"{given} {required}")

    def read_secret(self) -> bytes | None:
        """
        Read the secret of the topics on the command line, from a file or from
        standard input (C{-}).

        @return: the secret; C{None} if there is no --secret-file.
        @raise StateError: the file can't be read, is accessible to other users, or
            is too large.
        """
        name = self["secret-file"]
        return None if name is None else read_secret(name, sys.stdin.buffer)


def topic_to_join(name: str) -> TopicId:
    """
    Parse the topic of a command line or a configuration file, as
    L{TopicId.parse<dtt.records.topic.TopicId.parse>} does.

    @raise UsageError: the topic is invalid or empty.  An empty name would be
        valid, but is most likely an unset shell variable.
    """
    if not name:
        raise UsageError("the name of the topic is empty")
    return TopicId.parse(name)


def warn_without_secret(name: str) -> None:
    """
    Log a warning about a topic with an empty secret.
    """
    _log.warn(
        "Topic {name} has no secret, or an empty one: anyone who knows or guesses its name can read its "
        "records, join and write. Give a --secret-file that contains a secret.",
        name=name,
    )
