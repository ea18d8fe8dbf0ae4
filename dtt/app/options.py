"""
The options that C{twistd dtt} and C{dtt chat} share.

The command line takes precedence over the TOML file of C{--config}.  A secret is
never an option itself: it comes from a file or from standard input.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import IO

from attrs import evolve, field, frozen
from twisted.logger import Logger
from twisted.python import usage

from dtt.app.tickets import read_tickets
from dtt.app.usage import CommandOptions, path_name, value_of
from dtt.config import (
    ANNOUNCE_PEER,
    IROH_PRESETS,
    Config,
    IrohConfig,
    TopicTable,
    check_bind6,
    check_relay_url,
    check_transports,
    load_toml,
)
from dtt.errors import StateError, UsageError
from dtt.files import home_directory, is_path
from dtt.net.host_port import parse_host_port, parse_port
from dtt.records.ticket import Ticket
from dtt.records.topic import TopicId
from dtt.state import read_secret, read_secret_file, unusual_in

_log = Logger()


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


def default_state_dir(environ: Mapping[str, str], home: Path | None = None) -> Path | None:
    """
    Return the default state directory of a service: the first directory of
    systemd's C{$STATE_DIRECTORY}, else C{$DTT_STATE_DIR}, else C{dtt} in the XDG state
    directory.

    @param environ: the environment variables.
    @param home: the home directory of the user that the service will run as; C{None}:
        that of this process, whose environment then counts as well.
    @return: the directory; C{None} if it would be in a home directory and there
        is none.
    """
    under_systemd = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if under_systemd:
        return Path(under_systemd)
    given = environ.get("DTT_STATE_DIR", "")
    if is_path(given):
        return Path(given)
    if home is None:
        base = environ.get("XDG_STATE_HOME", "")
        if os.path.isabs(base):
            return Path(base) / "dtt"
        home = home_directory(environ)
    return None if home is None else home / ".local" / "state" / "dtt"


@contextmanager
def naming(setting: str) -> Iterator[None]:
    """
    Add the setting that names a file to errors about it.

    @param setting: for example C{--secret-file}.
    """
    try:
        yield
    except (StateError, UsageError) as error:
        raise type(error)(f"{setting}: {error}") from None


def ip_literal(family: type[IPv4Address | IPv6Address]) -> Callable[[str], str]:
    """
    Return a parse function for an option with an IP address.

    @param family: C{IPv4Address} or C{IPv6Address}.
    @return: a function that returns its argument, or raises ValueError if it is not
        such an address.
    """

    def check(text: str) -> str:
        try:
            family(text)
        except ValueError:
            raise ValueError(f"{text[:80]!r} is not an {family.__name__[:4]} address") from None
        return text

    return check


def transport_list(text: str) -> tuple[str, ...]:
    """
    Parse the names of transports, separated by commas.

    @raise ValueError: see L{check_transports}.
    """
    names = tuple(name.strip() for name in text[:80].split(","))
    try:
        check_transports(names)
    except UsageError as error:
        raise ValueError(str(error)) from None
    return names


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
        host, port = value_of("bootstrap", parse_host_port)(address)
        if not port:
            raise UsageError(f"--bootstrap: nothing can listen on port 0 of {host}")
        self["bootstrap"].append((host, port))


class TrackerOptions(BootstrapOptions):
    """
    Options that produce a L{Config<dtt.config.Config>}.

    @ivar typed: the topics of the ticket from standard input; C{None}: none was read.
    """

    typed: list[TopicSettings] | None = None

    optFlags = [
        ["no-publish", None, "Publish neither records nor addresses: find others without being found."],
        [
            "no-pkarr",
            None,
            "Don't use the DHT for addresses: neither publish ours under our peer id, nor look up "
            "addresses of others.",
        ],
        [
            "require-secret",
            None,
            "Refuse members that have not proved that they know the secret. Over streams, all must prove it; "
            "this option also refuses Rust members, which can't.",
        ],
        [
            "no-port-mapping",
            None,
            "Don't ask the router to map our ports (PCP, NAT-PMP; UPnP with pip install "
            "'distributed-topic-tracker[upnp]').",
        ],
        [
            "no-sealed",
            None,
            "Don't use the sealed slots, which only members with the secret can find. This matches versions "
            "before 0.2, and saves some traffic.",
        ],
        ["no-lan", None, "Don't search the local network for members (multicast)."],
        [
            "no-bubble-merge",
            None,
            "Don't search for other partitions of the swarm while there are few neighbours.",
        ],
        [
            "no-overlap-merge",
            None,
            "Don't search for partitions of the swarm by comparing received messages.",
        ],
    ]
    optParameters = [
        [
            "secret-file",
            None,
            None,
            "File with the secret of the topics on the command line; one final newline is dropped. It must "
            "not be accessible to other users (chmod 600). - is standard input, except for dtt chat. Without "
            "this option the secret is empty: anyone who knows or guesses the name of the topic can read "
            "its records and join.",
            value_of("secret-file", path_name),
        ],
        [
            "state-dir",
            None,
            None,
            "Directory for the key, the ports, the known DHT nodes and the addresses of members. Default: "
            "$STATE_DIRECTORY, else $DTT_STATE_DIR, else dtt in the XDG state directory; of dtt chat and "
            "--standalone: none.",
            value_of("state-dir", path_name),
        ],
        [
            "dht-port",
            None,
            None,
            "UDP port of the DHT node; 0: any port at the first start, which later starts reuse.",
            value_of("dht-port", parse_port),
        ],
        [
            "bind6",
            None,
            None,
            "IPv6: auto, off, or the local address to listen on, :: for all. Default: auto, which uses IPv6 "
            "on a machine with a global IPv6 address.",
            value_of("bind6", check_bind6),
        ],
        [
            "transport",
            None,
            None,
            "A list of transports, such as streams,quic: streams (TCP) and quic (through NATs) connect "
            "dtt members; iroh also connects Rust peers, but does not check the secret, see "
            "--require-secret. Default: all that are installed; iroh needs pip install "
            "'distributed-topic-tracker[iroh]'.",
            value_of("transport", transport_list),
        ],
        [
            "iroh-preset",
            None,
            None,
            "none: no third-party servers (the default); n0: the relays, DNS and pkarr publishing of n0, "
            "which most Rust programs use and which help behind NATs.",
            value_of("iroh-preset", one_of(IROH_PRESETS)),
        ],
        [
            "announce-peer",
            None,
            None,
            "When to announce our address in the DHT to members with the secret: never; alone, which means "
            "after some seconds without a neighbour (the default); always. Indexers of the DHT see announced "
            "addresses, but not the topic.",
            value_of("announce-peer", one_of(ANNOUNCE_PEER)),
        ],
        [
            "config",
            None,
            None,
            "TOML file with settings; the command line takes precedence.",
            value_of("config", path_name),
        ],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = {}
        self["ticket-file"] = []
        self["relay"] = []
        self["pkarr-relay"] = []

    def opt_listen(self, address: str) -> None:
        """
        streams:HOST:PORT or iroh:HOST:PORT: where other members connect to us.  HOST is an IP address of this
        machine; streams uses TCP, iroh uses UDP. Port 0: any port at the first start, which later starts
        reuse.  Without a prefix, the address is for streams.  May be given once for each transport.  Default:
        streams:0.0.0.0:0, and for iroh any port of the same host.
        """
        prefix, colon, rest = address.partition(":")
        transport = prefix if colon and prefix in ("streams", "iroh") else "streams"
        if transport in self["listen"]:
            raise usage.UsageError(f"--listen: more than one address for {transport}")
        host_port = rest if transport == prefix else address
        self["listen"][transport] = value_of("listen", parse_host_port)(host_port)

    def opt_ticket_file(self, name: str) -> None:
        """
        File with a ticket (a topic and its secret, see dtt new-topic). With -, dtt asks for the ticket on the
        terminal, or reads the first line of standard input.  The file must not be accessible to other users.
        May be repeated: with an old and a new ticket, dtt joins the topics of both.
        """
        self["ticket-file"].append(value_of("ticket-file", path_name)(name))

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
        config = Config()
        tables: tuple[TopicTable, ...] = ()
        if self["config"] is not None:
            with naming("--config"):
                config, tables = load_toml(Path(self["config"]))
        iroh_in_file, port_in_file = config.iroh != IrohConfig(), config.listen[1] != 0
        state_dir = self["state-dir"]
        config = evolve(
            config,
            state_dir=Path(state_dir) if state_dir is not None else config.state_dir or default_state_dir,
            transport=self["transport"] or config.transport,
            require_secret=config.require_secret or bool(self["require-secret"]),
            port_mapping=config.port_mapping and not self["no-port-mapping"],
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
                bind6=self["bind6"] or config.dht.bind6,
                bootstrap=tuple(self["bootstrap"]) or config.dht.bootstrap,
            ),
            addresses=evolve(
                config.addresses,
                pkarr=config.addresses.pkarr and not self["no-pkarr"],
                relays=tuple(self["pkarr-relay"]) or config.addresses.relays,
            ),
        )
        config = evolve(
            config,
            discovery=evolve(
                config.discovery,
                sealed=config.discovery.sealed and not self["no-sealed"],
                announce_peer=self["announce-peer"] or config.discovery.announce_peer,
                lan=config.discovery.lan and not self["no-lan"],
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

    def _check_transports(
        self, transport: Sequence[str] | None, iroh_in_file: bool, port_in_file: bool
    ) -> None:
        """
        Check that no setting of a transport is ignored silently.

        @param transport: the configured transports.
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
                "--listen without iroh: is for streams; without that transport use --listen iroh:HOST:PORT"
            )
        if "streams" not in names and port_in_file and self["transport"] is None:
            raise UsageError(f"{self['config']}: listen: is for streams; for iroh set it under [iroh]")
        if "iroh" in names:
            return
        if self["relay"] or self["iroh-preset"] or "iroh" in self["listen"]:
            given, required = "--listen iroh:, --relay and --iroh-preset need", "iroh in --transport"
        elif iroh_in_file and self["transport"] is None:
            given, required = f"{self['config']}: [iroh] needs", "iroh in transport"
        else:
            return
        if transport is None:
            required = (
                f"the iroh package{iroh_bindings.unavailable_reason() or ''}: {iroh_bindings.HOW_TO_INSTALL}"
            )
        raise UsageError(f"{given} {required}")

    def refuse_lone_secret(self, has_topic: bool) -> None:
        """
        Check that --secret-file, if it is given, applies to a topic.

        @param has_topic: whether there is a topic on the command line, without a ticket.
        @raise UsageError: there is none.
        """
        if self["secret-file"] is not None and not has_topic:
            raise UsageError(
                "--secret-file is for a topic that is named on the command line; a ticket has its own "
                "secret, and a topic in the file of --config its own secret_file"
            )

    def read_secret(self) -> bytes | None:
        """
        Read the secret of the topics on the command line, from a file or from
        standard input (C{-}).

        @return: the secret; C{None} if there is no --secret-file.
        @raise StateError: the file can't be read, is accessible to other users, or
            is too large.
        """
        name = self["secret-file"]
        if name is None:
            return None
        with naming("--secret-file"):
            return _checked(read_secret(name, standard_input()), "--secret-file")

    def read_tickets(self) -> list[TopicSettings]:
        """
        Read the tickets of --ticket-file.

        @return: their topics, in order.
        @raise StateError: a file can't be read, or is accessible to other users.
        @raise UsageError: there is no ticket in it, or it is damaged.
        """
        found: list[TopicSettings] = []
        for name in self["ticket-file"]:
            if name == "-" and self.typed is not None:
                found.extend(self.typed)
                continue
            with naming("--ticket-file"):
                topics = list(map(_of_ticket, read_tickets(name)))
            if name == "-":
                self.typed = topics
            found.extend(topics)
        return found

    def topics_in(self, table: TopicTable) -> list[TopicSettings]:
        """
        Return the topics of a table of the configuration file: one, or those of its
        tickets.

        @raise StateError: a file can't be read, or is accessible to other users.
        @raise UsageError: the topic or a ticket is invalid.
        """
        if table.ticket_file is not None:
            with naming(f"{self['config']}: ticket_file"):
                # A relative path, not standard input, if it is "-".
                return list(map(_of_ticket, read_tickets(Path.cwd() / table.ticket_file)))
        return [TopicSettings(table.name, topic_to_join(table.name), self.read_secret_of(table))]

    def read_secret_of(self, table: TopicTable) -> bytes | None:
        """
        Read the secret of a topic of the configuration file.

        @return: the secret; C{None} if the file names none.
        @raise StateError: as L{read_secret}.
        """
        if table.secret_file is None:
            return None
        setting = f"{self['config']}: secret_file of topic {table.name!r}"
        with naming(setting):
            return _checked(read_secret_file(table.secret_file), setting)


def _of_ticket(ticket: Ticket) -> TopicSettings:
    return TopicSettings(ticket.label or ticket.topic_id.label, ticket.topic_id, ticket.secret)


def standard_input() -> IO[bytes] | None:
    """
    Return the standard input, binary; C{None} if the process was started without one.
    """
    return None if sys.stdin is None else sys.stdin.buffer


def _checked(secret: bytes, setting: str) -> bytes:
    """
    Warn if an editor may have added bytes to a secret.
    """
    if unusual := unusual_in(secret):
        _log.warn(
            "{setting}: the secret {unusual}. This is part of it: all members need the same bytes.",
            setting=setting,
            unusual=unusual,
        )
    return secret


def topic_to_join(name: str) -> TopicId:
    """
    Parse the topic of a command line or a configuration file, as
    L{TopicId.parse<dtt.records.topic.TopicId.parse>} does.

    @raise UsageError: the topic is invalid, or has no visible character.  Such a
        name would be valid, but is most likely an unset shell variable.
    """
    # A byte that is not UTF-8 is a surrogate here, which is not printable.
    if not any("\udc80" <= each <= "\udcff" or (each.isprintable() and each != " ") for each in name):
        raise UsageError("the name of the topic is empty or blank")
    return TopicId.parse(name)


def refuse_repeated(topics: Iterable[TopicSettings]) -> None:
    """
    Check that each topic is given once.

    @raise UsageError: one is given twice.
    """
    seen: set[bytes] = set()
    for topic in topics:
        if topic.topic_id in seen:
            raise UsageError(f"the topic {topic.name!r} is given twice")
        seen.add(topic.topic_id)


def warn_without_secret(name: str) -> None:
    """
    Log a warning about a topic with an empty secret.
    """
    _log.warn(
        "Topic {name} has no secret, or an empty one: anyone who knows or guesses its name can read its "
        "records, join and send messages. Give a --secret-file that contains a secret.",
        name=name,
    )
