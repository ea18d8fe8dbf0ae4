"""
The options that C{twistd dtt} and C{dtt chat} share.

What stands on the command line wins over the TOML file of C{--config}.  A
secret is never an option: it comes from a file or from standard input.
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

    @ivar name: as the operator wrote it.
    @ivar topic_id: 32 bytes.
    @ivar secret: any bytes; C{None}: none was given.
    """

    name: str
    topic_id: TopicId
    secret: bytes | None = field(repr=False)


def default_state_dir(environ: Mapping[str, str]) -> Path | None:
    """
    Where a service keeps its state: systemd's C{$STATE_DIRECTORY} (the first
    one), else C{dtt} in the XDG state directory; C{None} if that would be in
    a home directory and there is none.
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
    C{arguments} with the options before all else: C{usage.Options} itself
    takes none that follow, say, the topic.

    @raise UsageError: Twisted's; an option is unknown, or lacks its value.
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
    Options with our C{--version} instead of Twisted's, whose C{--help} shows the
    docstring of a method as one paragraph.
    """

    def __init__(self) -> None:
        super().__init__()
        # Twisted wraps it as it is, with the indentation of the code.
        self.docs = {option: " ".join((doc or "").split()) for option, doc in self.docs.items()}

    def opt_version(self) -> None:
        """Print the version and exit."""
        print(f"dtt {__version__.public()}")
        raise SystemExit(0)


class CommandOptions(VersionedOptions):
    """
    Options of which some may follow the arguments, and whose own errors are
    usage errors.
    """

    def parseOptions(self, options: list[str] | None = None) -> None:
        """
        As C{usage.Options}.
        """
        try:
            super().parseOptions(None if options is None else options_first(self, options))
        except DTTError as error:
            raise usage.UsageError(str(error)) from None
        except usage.UsageError as error:
            # What Twisted puts before the words of a parser of ours.
            words = str(error).removeprefix("Parameter type enforcement failed: ")
            raise usage.UsageError(words) from None

    def parseArgs(self, *arguments: str) -> None:
        """
        Nothing but options, unless a command says otherwise.

        @raise UsageError: Twisted's; there is something else.
        """
        if arguments:
            raise usage.UsageError(f"what is {arguments[0][:80]!r}? Only options are expected; see --help")


def value_of(option: str, parse: Callable[[str], T]) -> Callable[[str], T]:
    """
    C{parse}, whose errors name the option.

    @param parse: raises ValueError.
    """

    def parse_value(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise UsageError(f"--{option}: {error}") from None

    return parse_value


def port_number(text: str) -> int:
    """
    A UDP or TCP port.

    @raise ValueError: it is none.
    """
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise ValueError(f"{text[:80]!r} is not a port, 0..65535")
    return int(text)


def one_of(allowed: Sequence[str]) -> Callable[[str], str]:
    """
    The values that an option may have, as a function that refuses others.
    """

    def check(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}, not {text[:80]!r}")
        return text

    return check


def relay_url(text: str) -> str:
    """
    The URL of a relay.

    @raise UsageError: it is none.
    """
    check_relay_url(text)
    return text


class BootstrapOptions(CommandOptions):
    """
    Options with C{--bootstrap}.
    """

    def __init__(self) -> None:
        super().__init__()
        self["bootstrap"] = []

    def opt_bootstrap(self, address: str) -> None:
        """HOST:PORT of a DHT node to start from, instead of the public ones; may be given several times."""
        self["bootstrap"].append(value_of("bootstrap", parse_host_port)(address))


class TrackerOptions(BootstrapOptions):
    """
    Options that make a L{Config}.
    """

    optFlags = [
        ["no-publish", None, "Publish no record and no address: join others, but don't be found."],
        [
            "no-pkarr",
            None,
            "Don't use the DHT for addresses: neither publish ours there under our id, nor look for others'.",
        ],
        ["no-bubble-merge", None, "Don't look for other bubbles while there are few neighbours."],
        ["no-overlap-merge", None, "Don't look for members that hear other messages than we do."],
    ]
    optParameters = [
        [
            "secret-file",
            None,
            None,
            "File with the secret of the topics given here; one final newline is dropped, all else is "
            "exact. It must not be readable by others (chmod 600). For twistd dtt, - is standard input. "
            "Without one the secret is empty: then whoever knows or guesses the topic's name can read the "
            "records and join.",
        ],
        [
            "state-dir",
            None,
            None,
            "Directory for the key, the ports and the known DHT nodes. Default of twistd dtt: "
            "$STATE_DIRECTORY, else dtt in the XDG state directory; of dtt chat: none.",
        ],
        [
            "dht-port",
            None,
            None,
            "UDP port of the DHT node; 0: any at first, then kept.",
            value_of("dht-port", port_number),
        ],
        [
            "transport",
            None,
            None,
            "How members reach each other: streams (TCP, dtt only), iroh (QUIC, also with Rust peers) or "
            "both. Default: both when the iroh package is installed "
            "(pip install 'distributed-topic-tracker[iroh]'), else streams.",
            value_of("transport", one_of(TRANSPORTS)),
        ],
        [
            "iroh-preset",
            None,
            None,
            "none: no server of anyone's (the default); n0: the relays, DNS and pkarr publishing of n0, "
            "which most Rust programs use and which help behind NATs.",
            value_of("iroh-preset", one_of(IROH_PRESETS)),
        ],
        ["config", None, None, "TOML file with settings; the command line wins over it."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = {}
        self["relay"] = []
        self["pkarr-relay"] = []

    def opt_listen(self, address: str) -> None:
        """
        streams:HOST:PORT or iroh:HOST:PORT on which other members connect to us (an IP of this machine;
        TCP for streams, UDP for iroh); port 0: any at first, then kept. Without a prefix it is streams.
        May be given once for each. Default: streams:0.0.0.0:0, and for iroh any port of the same host.
        """
        prefix, colon, rest = address.partition(":")
        transport = prefix if colon and prefix in ("streams", "iroh") else "streams"
        if transport in self["listen"]:
            raise usage.UsageError(f"--listen: there are two addresses for {transport}")
        place = rest if transport == prefix else address
        self["listen"][transport] = value_of("listen", parse_host_port)(place)

    def opt_relay(self, url: str) -> None:
        """URL of an iroh relay of your own, in place of the preset's; may be given several times."""
        self["relay"].append(value_of("relay", relay_url)(url))

    def opt_pkarr_relay(self, url: str) -> None:
        """
        URL of a pkarr relay, where our addresses are published and those of others looked for, besides the
        DHT; may be given several times. Default: none.
        """
        self["pkarr-relay"].append(value_of("pkarr-relay", relay_url)(url))

    def load(self, default_state_dir: Path | None) -> tuple[Config, tuple[TopicTable, ...]]:
        """
        The settings of the TOML file and of the command line, and the file's
        topics.

        @param default_state_dir: if neither names one; C{None}: keep none.
        @raise UsageError: the file is unusable, or what was asked for does not
            fit together or is not installed.
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
        Nothing that was asked for may be left out silently.

        @param iroh_in_file: whether the TOML file sets iroh up.
        @param port_in_file: whether it names a port of streams.
        @raise UsageError: a transport is not installed, or not used though
            something was set for it.
        """
        # It loads TLS, which `dtt node` does without: see dtt.cli.node.
        from dtt.tracker.transports import transport_names
        from dtt.transport.iroh import bindings as iroh_bindings

        names = transport_names(transport)
        if "streams" not in names and "streams" in self["listen"]:
            raise UsageError(
                "--listen without iroh: is for streams; with --transport iroh write --listen iroh:HOST:PORT"
            )
        if "streams" not in names and port_in_file and self["transport"] is None:
            raise UsageError(
                f"{self['config']}: listen: is for streams; with transport iroh write it under [iroh]"
            )
        if "iroh" in names:
            return
        if self["relay"] or self["iroh-preset"] or "iroh" in self["listen"]:
            asked, wanted = "--listen iroh:, --relay and --iroh-preset need", "--transport iroh or both"
        elif iroh_in_file and self["transport"] is None:
            asked, wanted = f"{self['config']}: [iroh] needs", "transport iroh or both"
        else:
            return
        if transport is None:
            wanted = (
                f"the iroh package{iroh_bindings.unavailable_reason() or ''}: {iroh_bindings.HOW_TO_INSTALL}"
            )
        raise UsageError(f"{asked} {wanted}")

    def read_secret(self) -> bytes | None:
        """
        The secret of the topics on the command line; C{-} is standard input.

        @raise StateError: the file can't be read, others can read it, or it is
            too large.
        """
        name = self["secret-file"]
        return None if name is None else read_secret(name, sys.stdin.buffer)


def topic_to_join(name: str) -> TopicId:
    """
    The topic of a command line or a configuration file, as L{TopicId.parse}.

    @raise UsageError: also if it is empty: it has an id like any other, but who
        asks for it has most likely a variable that is not set.
    """
    if not name:
        raise UsageError("the name of the topic is empty")
    return TopicId.parse(name)


def warn_without_secret(name: str) -> None:
    """
    Say what an empty secret means.
    """
    _log.warn(
        "Topic {name} has no secret, or an empty one: whoever knows or guesses its name can read its "
        "records, join and write. Give a --secret-file that holds one.",
        name=name,
    )
