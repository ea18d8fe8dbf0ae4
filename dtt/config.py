"""
Settings, as frozen attrs classes.

L{load_toml} reads them from a TOML file; errors are L{UsageError}s that name
the file, the key and what was expected.  Defaults marked "records" are those of
docs/protocol/records.md section 6, which are upstream's.  All intervals and
timeouts are in seconds.
"""

from __future__ import annotations

import ipaddress
import os
import string
import tomllib
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from attrs import NOTHING, Attribute, AttrsInstance, field, fields, frozen
from attrs.validators import optional

from dtt.errors import StateError, UsageError, WrongType
from dtt.files import home_directory, is_path, read_bounded, reason_of, shown
from dtt.net.host_port import HostPort, parse_host_port
from dtt.setting_types import shown as _shown
from dtt.setting_types import typed
from dtt.wire.addresses import MAX_RELAY_URL

#: The public bootstrap hosts: those that the Rust crate has (docs/protocol/interop.md
#: section 1), libtorrent's (dht.libtorrent.org), Transmission's
#: (dht.transmissionbt.com), and the other ones of anacrolix/dht.  They have different operators;
#: router.silotis.us is for IPv6.  All are queried at the same time, so dead ones cause no delay.
PUBLIC_BOOTSTRAP: tuple[HostPort, ...] = (
    ("router.bittorrent.com", 6881),
    ("dht.transmissionbt.com", 6881),
    ("dht.libtorrent.org", 25401),
    ("relay.pkarr.org", 6881),
    ("dht.aelitis.com", 6881),
    ("router.silotis.us", 6881),
    ("dht.anacrolix.link", 42069),
    ("router.bittorrent.cloud", 42069),
    ("router.utorrent.com", 6881),
)

#: The maximum size of a configuration file in bytes (guess: a device file must not
#: exhaust the memory).
MAX_FILE_BYTES = 1024 * 1024

#: The maximum of every number, in particular of seconds, about 30 years (guess: enough
#: for "never", and far from what clocks and floats can't represent).
MAX_NUMBER = 1e9

#: For each scalar type of a field: its name in error messages, and the types that
#: the TOML parser yields for it.
_SCALARS: Mapping[Any, tuple[str, tuple[type, ...]]] = {
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
    str: ("a string", (str,)),
    Path: ("a path (a string)", (str,)),
}

#: The names in C{transport}, the preferred one first, and the accepted values of
#: C{preset} of C{[iroh]}.
TRANSPORTS = ("streams", "quic", "iroh")
IROH_PRESETS = ("none", "n0")

#: The characters allowed in the base URL of a relay (RFC 3986, without user, query
#: and fragment).
_URL_CHARACTERS = frozenset(string.ascii_letters + string.digits + "-._~:/[]!$&'()*+,;%")

#: The characters of a host name.
_NAME_CHARACTERS = frozenset(string.ascii_letters + string.digits + "-._")

T = TypeVar("T", bound=AttrsInstance)


def _at_least(minimum: float) -> Callable[[Any, Attribute[Any], Any], None]:
    def check(instance: Any, attribute: Attribute[Any], value: Any) -> None:
        if not value >= minimum or value == float("inf"):
            raise UsageError(
                f"{attribute.name} must be a finite number of at least {minimum}, not {_shown(value)}"
            )
        if value > MAX_NUMBER:
            raise UsageError(f"{attribute.name} must be at most {MAX_NUMBER:.0f}, not {_shown(value)}")

    return check


def _between(minimum: int, maximum: int) -> Callable[[Any, Attribute[Any], Any], None]:
    def check(instance: Any, attribute: Attribute[Any], value: Any) -> None:
        if not minimum <= value <= maximum:
            raise UsageError(f"{attribute.name} must be {minimum}..{maximum}, not {value!r}")

    return check


# Lists are converted; anything else but a tuple is refused later.


def _pair_tuple(value: Sequence[HostPort]) -> tuple[HostPort, ...]:
    return tuple(value) if isinstance(value, list) else cast(tuple[HostPort, ...], value)


def _text_tuple(value: Sequence[str]) -> tuple[str, ...]:
    return tuple(value) if isinstance(value, list) else cast(tuple[str, ...], value)


def _port(instance: Any, attribute: Attribute[Any], value: int) -> None:
    if not 0 <= value < 65536:
        raise UsageError(f"{attribute.name}: port {_shown(value)} is out of range; ports are 0..65535")


def _pair(instance: Any, attribute: Attribute[Any], value: HostPort) -> None:
    match value:
        case (str(), int() as port):
            _port(instance, attribute, port)
        case _:
            raise UsageError(f'{attribute.name} must be ("HOST", PORT), not {_shown(value)}')


def _pairs(instance: Any, attribute: Attribute[Any], value: tuple[HostPort, ...]) -> None:
    for each in value:
        _pair(instance, attribute, each)


def _path(value: str | Path | None) -> Path | None:
    if isinstance(value, str) and not is_path(value):
        raise UsageError(f"state_dir must be a path, not {value!r}")
    if value is not None and not isinstance(value, str | Path):
        raise WrongType(f"state_dir must be a path, not {_shown(value)}")
    return None if value is None else Path(value)


def _listen(instance: Any, attribute: Attribute[Any], value: HostPort) -> None:
    _pair(instance, attribute, value)
    host, _ = value
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise UsageError(
            f"{attribute.name} must be an IP address of this machine, not {_shown(host)}"
        ) from None


def _bind(instance: Any, attribute: Attribute[Any], value: str) -> None:
    try:
        ipaddress.IPv4Address(value or "0.0.0.0")
    except ValueError:
        raise UsageError(
            f"{attribute.name} must be an IPv4 address of this machine, not {_shown(value)}"
        ) from None


def _bind6(instance: Any, attribute: Attribute[Any], value: str) -> None:
    try:
        check_bind6(value)
    except ValueError:
        raise UsageError(
            f"{attribute.name} must be auto, off or an IPv6 address of this machine, not {_shown(value)}"
        ) from None


def check_bind6(value: str) -> str:
    """
    Return C{value} if it can be the value of C{bind6}; raise ValueError otherwise.
    """
    if value not in ("auto", "off"):
        try:
            ipaddress.IPv6Address(value)
        except ValueError:
            raise ValueError(f"{value[:80]!r} is neither auto, off nor an IPv6 address") from None
    return value


def _names(value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(","))
    if not isinstance(value, list | tuple):
        raise WrongType(f"transport must be a tuple of names, or one string with commas, not {_shown(value)}")
    return tuple(value)


def check_transports(names: Sequence[str]) -> None:
    """
    Check the names of transports.

    @raise UsageError: one is unknown, or one occurs twice.
    """
    for name in names:
        if name not in TRANSPORTS:
            raise UsageError(
                f"must be a list of {', '.join(TRANSPORTS)}, such as streams,quic; not {_shown(name)}"
            )
    if len(set(names)) < len(names):
        raise UsageError(
            f"must name each transport once, such as streams,quic; not {_shown(','.join(names))}"
        )


def _transports(instance: Any, attribute: Attribute[Any], value: tuple[str, ...] | None) -> None:
    if value is not None:
        try:
            check_transports(value)
        except UsageError as error:
            raise UsageError(f"{attribute.name} {error}") from None


def _one_of(*allowed: str | None) -> Callable[[Any, Attribute[Any], Any], None]:
    def check(instance: Any, attribute: Attribute[Any], value: Any) -> None:
        if value not in allowed:
            names = ", ".join(name for name in allowed if name is not None)
            raise UsageError(f"{attribute.name} must be one of {names}, not {_shown(value)}")

    return check


def check_relay_url(url: str) -> None:
    """
    Check the base URL of a relay: C{http} or C{https}, a host, and optionally a
    port and a path.  The URL appears in events and logs, so a user name and a
    password are rejected.

    @raise UsageError: C{url} is not such a URL.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or len(url) > MAX_RELAY_URL or not _URL_CHARACTERS.issuperset(url):
        # Don't show what precedes an @: it may contain a password.
        raise UsageError(f"{url.rpartition('@')[2][:80]!r} is not a relay URL (https://HOST/)")


def _relay_urls(instance: Any, attribute: Attribute[Any], value: tuple[str, ...]) -> None:
    for url in value:
        try:
            check_relay_url(url)
        except UsageError as error:
            raise UsageError(f"{attribute.name}: {error}") from None


def _interval(default: float) -> Any:
    """
    Define an interval of a periodic service: at least 1 s (records).
    """
    return field(default=default, validator=_at_least(1))


def _duration(default: float) -> Any:
    return field(default=default, validator=_at_least(0))


def _count(default: int) -> Any:
    return field(default=default, validator=_at_least(0))


@frozen(slots=True, field_transformer=typed)
class DHTConfig:
    """
    The DHT node, and the timeouts and retries of reads and puts of records.

    @ivar port: UDP port; 0: the system chooses one at the first start, and
        later starts reuse it.
    @ivar bind: the local IPv4 address to bind; empty: all.
    @ivar bind6: C{auto}, the default: also use IPv6 if the machine has a global IPv6 address at the start,
        unless C{bind} is set; C{off}: no IPv6; or the local IPv6 address to bind, C{::} for all.  If the
        streams transport listens on all IPv4 addresses, it also listens there.
    @ivar bootstrap: (host, port) pairs of the bootstrap nodes; names or IPs.
    @ivar upload_rate: bytes per second for responses to other nodes; does not
        limit our own lookups.
    @ivar retries: the number of retries after a failed put (records).
    @ivar base_retry_interval: the delay before each retry (records).
    @ivar max_retry_jitter: the maximum random addition to it (records).
    @ivar get_timeout: the timeout of one read of a slot (records).
    @ivar put_timeout: the timeout of one put of a record (records).
    """

    port: int = field(default=0, validator=_port)
    bind: str = field(default="", validator=_bind)
    bind6: str = field(default="auto", validator=_bind6)
    bootstrap: tuple[HostPort, ...] = field(default=PUBLIC_BOOTSTRAP, converter=_pair_tuple, validator=_pairs)
    upload_rate: float = field(default=8000.0, validator=_at_least(1000))
    retries: int = _count(3)
    base_retry_interval: float = _duration(5.0)
    max_retry_jitter: float = _duration(10.0)
    get_timeout: float = field(default=10.0, validator=_at_least(0.1))
    put_timeout: float = field(default=10.0, validator=_at_least(0.1))


@frozen(slots=True, field_transformer=typed)
class BootstrapConfig:
    """
    The fetcher, which searches while there is no neighbour.  All defaults: records.

    @ivar max_bootstrap_records: with a neighbour, don't publish to a slot that holds
        this many records of other members; 0: never publish.
    @ivar no_peers_retry_interval: the delay after a read that finds no member.
    @ivar per_peer_join_settle_time: the delay after each candidate, once the
        first four have been joined.
    @ivar join_confirmation_wait_time: the minimum delay after a round with
        candidates.
    @ivar discovery_poll_interval: the delay after a read that finds members.
    @ivar publish_record_on_startup: publish a record before the first read.
    @ivar check_older_records_first_on_startup: read the slots of minute-2 and
        minute-1 first.
    """

    max_bootstrap_records: int = _count(5)
    no_peers_retry_interval: float = _duration(1.5)
    per_peer_join_settle_time: float = _duration(0.1)
    join_confirmation_wait_time: float = _duration(0.5)
    discovery_poll_interval: float = _duration(2.0)
    publish_record_on_startup: bool = True
    check_older_records_first_on_startup: bool = False


#: When a member announces itself: the values of C{announce_peer}.
ANNOUNCE_PEER = ("never", "alone", "always")


@frozen(slots=True, field_transformer=typed)
class DiscoveryConfig:
    """
    The channels by which members find each other, in addition to the record slots.

    @ivar sealed: use the sealed slots, which only members can find; without a secret
        they are not used.
    @ivar announce_peer: when to announce our address in the DHT, under an info hash that
        only members can compute: C{never}; C{alone}: after some seconds without a
        neighbour; C{always}.  Indexers of the DHT see announced addresses.
    @ivar lan: search the local network (multicast).
    @ivar memory: remember recent neighbours in the state directory.
    """

    sealed: bool = True
    announce_peer: str = field(default="alone", validator=_one_of(*ANNOUNCE_PEER))
    lan: bool = True
    memory: bool = True


@frozen(slots=True, field_transformer=typed)
class PublisherConfig:
    """
    The publisher, which keeps a joined member visible.  All defaults: records.

    @ivar enabled: whether the service runs.
    @ivar initial_delay: the delay between joining and the first record.
    @ivar base_interval: the interval between two records.
    @ivar max_jitter: the maximum random addition to it, uniformly distributed.
    """

    enabled: bool = True
    initial_delay: float = _duration(10.0)
    base_interval: float = _interval(10.0)
    max_jitter: float = _duration(50.0)


@frozen(slots=True, field_transformer=typed)
class BubbleMergeConfig:
    """
    Bubble merge, which joins other bubbles while there are few neighbours.  All
    defaults: records.

    @ivar enabled: whether the service runs.
    @ivar initial_interval: the delay between joining and the first check.
    @ivar base_interval: the interval between two checks.
    @ivar max_jitter: the maximum random addition to it, uniformly distributed.
    @ivar min_neighbors: skip the check with at least this many neighbours.
    @ivar max_join_peers: the maximum number of members joined per check.
    """

    enabled: bool = True
    initial_interval: float = _interval(30.0)
    base_interval: float = _interval(60.0)
    max_jitter: float = _duration(120.0)
    min_neighbors: int = _count(4)
    max_join_peers: int = _count(2)


@frozen(slots=True, field_transformer=typed)
class MessageOverlapMergeConfig:
    """
    Message overlap merge, which joins members whose records list messages, but none that we have received.
    All defaults: records.

    @ivar enabled: whether the service runs.
    @ivar initial_interval: the delay between joining and the first check.
    @ivar base_interval: the interval between two checks.
    @ivar max_jitter: the maximum random addition to it, uniformly distributed.
    @ivar max_join_peers: the maximum number of members joined per check.
    """

    enabled: bool = True
    initial_interval: float = _interval(30.0)
    base_interval: float = _interval(60.0)
    max_jitter: float = _duration(120.0)
    max_join_peers: int = _count(2)


@frozen(slots=True, field_transformer=typed)
class TimeoutsConfig:
    """
    Timeouts of gossip operations.  All defaults: records.

    @ivar join_peer: for resolving and dialling one peer.
    @ivar broadcast: for the neighbours to accept a broadcast.
    @ivar broadcast_neighbors: for the neighbours to accept a broadcast that is
        for direct neighbours only.
    """

    join_peer: float = field(default=5.0, validator=_at_least(0.1))
    broadcast: float = field(default=5.0, validator=_at_least(0.1))
    broadcast_neighbors: float = field(default=5.0, validator=_at_least(0.1))


@frozen(slots=True, field_transformer=typed)
class GossipSettings:
    """
    The gossip of each topic.  All other parameters of the protocol are constants
    (docs/protocol/gossip.md section 1).

    @ivar active_view_capacity: the maximum number of neighbours: at least 2,
        because with one the members form pairs; at most 32, because each
        neighbour is a connection, and gets a copy of most messages.
    @ivar passive_view_capacity: the maximum number of other members that are
        remembered, to replace neighbours that are lost: 10 to 1000.
    @ivar shuffle_interval: seconds between two exchanges of remembered members
        with others: at least 10.
    @ivar max_cached_bytes: the maximum size in bytes of the messages of a topic
        that are kept for neighbours that may request them: at least 1 MiB.
        With less than they send in half a second, members miss messages.
    @ivar max_message_size: the maximum size in bytes of a message of the protocol, 512 to
        65536: contents have up to some 40 bytes less, 4055 by default.  It must be equal for all members of
        all topics, including Rust members: a member with a smaller value closes the connection when a larger
        message arrives.
    """

    active_view_capacity: int = field(default=5, validator=_between(2, 32))
    passive_view_capacity: int = field(default=30, validator=_between(10, 1000))
    shuffle_interval: float = field(default=60.0, validator=_at_least(10))
    max_cached_bytes: int = field(default=32 * 2**20, validator=_at_least(2**20))
    max_message_size: int = field(default=4096, validator=_between(512, 65_536))


@frozen(slots=True, field_transformer=typed)
class IrohConfig:
    """
    The iroh transport, which Rust peers use (extra C{iroh}).

    @ivar listen: (IP, UDP port); port 0: the system chooses one at the first
        start, and later starts reuse it; C{None}: any port of the IP that the
        streams transport listens on.
    @ivar preset: C{none}: no third-party servers.  C{n0}: the relays, DNS and
        pkarr publishing of n0, which most Rust programs use and which help behind NATs.
    @ivar relays: URLs of your own relays, used instead of the preset's.
    """

    listen: HostPort | None = field(default=None, validator=optional(_listen))
    preset: str = field(default="none", validator=_one_of(*IROH_PRESETS))
    relays: tuple[str, ...] = field(default=(), converter=_text_tuple, validator=_relay_urls)


@frozen(slots=True, field_transformer=typed)
class AddressesConfig:
    """
    Publication and lookup of addresses with signed pkarr packets
    (docs/protocol/addresses.md).  Intervals: docs/protocol/addresses.md section 1.

    @ivar pkarr: publish and look up packets in the DHT.
    @ivar publish: publish our own addresses; if false, only look up those of
        other members.
    @ivar pkarr_interval: the interval between publications in the DHT.
    @ivar relays: base URLs of pkarr relays; empty: fully decentralised.
    @ivar relay_interval: the interval between publications at a relay.
    """

    pkarr: bool = True
    publish: bool = True
    pkarr_interval: float = field(default=3600.0, validator=_at_least(60))
    relays: tuple[str, ...] = field(default=(), converter=_text_tuple, validator=_relay_urls)
    relay_interval: float = field(default=300.0, validator=_at_least(60))


def _host_names(instance: Any, attribute: Attribute[Any], value: tuple[str, ...]) -> None:
    for name in value:
        if not name or len(name) > 253 or not set(name) <= _NAME_CHARACTERS:
            raise UsageError(f"{attribute.name}: {_shown(name)} is not the name of a host")


@frozen(slots=True, field_transformer=typed)
class WebConfig:
    """
    The HTTP interface of the service on TCP, in addition to the Unix socket in the state directory
    (docs/reference/http.md).

    @ivar listen: (IP, TCP port) of the status page; port 0: the system chooses one at each
        start; C{None}: the Unix socket only.
    @ivar hosts: host names that browsers may use, in addition to IP addresses and C{localhost}; requests for
        other names are refused.
    """

    listen: HostPort | None = field(default=None, validator=optional(_listen))
    hosts: tuple[str, ...] = field(default=(), validator=_host_names)


@frozen(slots=True, field_transformer=typed)
class Config:
    """
    All settings of a tracker.

    @ivar state_dir: the directory for the key, the ports, the known DHT nodes
        and the addresses of members; C{None}: a temporary identity, and
        nothing on disk.
    @ivar transport: the transports: some of C{streams} (TCP), C{quic} (QUIC on the DHT's socket, through
        NATs) and C{iroh}, as a tuple or as one string with commas; C{None}: all that are installed; C{()}:
        none, for L{discovery only<dtt.tracker.tracker.Tracker.discover>}.  Over iroh, the secret does not
        control who may join, see C{require_secret}.
    @ivar listen: (IP, TCP port) of the streams transport; port 0: the system
        chooses one at the first start, and later starts reuse it.
    @ivar require_secret: refuse members that have not proved that they know the secret
        of the topic.  Streams and quic always require that; over iroh, Rust members and older ones are
        refused.
    @ivar port_mapping: ask the router to map our ports, if there is one between us and
        the Internet.
    @ivar max_connections: the maximum number of connections to members, for each
        transport.
    @ivar iroh: the iroh transport.
    @ivar dht: the DHT node.
    @ivar bootstrap: the fetcher.
    @ivar discovery: the discovery channels.
    @ivar publisher: the publisher.
    @ivar bubble_merge: bubble merge.
    @ivar message_overlap_merge: message overlap merge.
    @ivar timeouts: timeouts of gossip operations.
    @ivar gossip: the gossip of each topic.
    @ivar addresses: publication and lookup of addresses.
    @ivar web: the HTTP interface of the service.
    """

    state_dir: Path | None = field(default=None, converter=_path)
    transport: tuple[str, ...] | None = field(default=None, converter=_names, validator=_transports)
    listen: HostPort = field(default=("0.0.0.0", 0), validator=_listen)
    require_secret: bool = False
    port_mapping: bool = True
    max_connections: int = field(default=512, validator=_at_least(8))
    iroh: IrohConfig = field(factory=IrohConfig)
    dht: DHTConfig = field(factory=DHTConfig)
    bootstrap: BootstrapConfig = field(factory=BootstrapConfig)
    discovery: DiscoveryConfig = field(factory=DiscoveryConfig)
    publisher: PublisherConfig = field(factory=PublisherConfig)
    bubble_merge: BubbleMergeConfig = field(factory=BubbleMergeConfig)
    message_overlap_merge: MessageOverlapMergeConfig = field(factory=MessageOverlapMergeConfig)
    timeouts: TimeoutsConfig = field(factory=TimeoutsConfig)
    gossip: GossipSettings = field(factory=GossipSettings)
    addresses: AddressesConfig = field(factory=AddressesConfig)
    web: WebConfig = field(factory=WebConfig)


@frozen(slots=True, field_transformer=typed)
class TopicTable:
    """
    One C{[[topic]]} of a TOML file.

    @ivar name: a name, or C{hex:} and 64 hexadecimal digits, as for C{--topic}; empty with C{ticket_file}.
    @ivar secret_file: the file with the secret; C{None}: the empty secret.
    @ivar ticket_file: a file with one or more tickets, instead of the two others.
    """

    name: str = ""
    secret_file: Path | None = None
    ticket_file: Path | None = None

    def __attrs_post_init__(self) -> None:
        if self.ticket_file is None and not self.name:
            raise UsageError("name: missing; give name, or ticket_file")
        if self.ticket_file is not None and (self.name or self.secret_file is not None):
            raise UsageError("ticket_file: has the topic and the secret; give neither name nor secret_file")


def load_toml(path: Path) -> tuple[Config, tuple[TopicTable, ...]]:
    """
    Read a configuration file.

    @param path: the TOML file.
    @return: the settings, and the topics to join.
    @raise UsageError: the file is unreadable or not TOML, or contains an unknown
        key, a wrong type or an invalid value.  The message names the key and
        what was expected.
    """
    try:
        data = read_bounded(path, MAX_FILE_BYTES)
    except OSError as error:
        raise UsageError(f"{shown(path)}: can't be read: {reason_of(error)}") from None
    except StateError as error:
        raise UsageError(str(error)) from None
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(
            f"{shown(path)}: larger than {MAX_FILE_BYTES} bytes; this is not a configuration file"
        )
    try:
        document = tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # also of integers with thousands of digits
        raise UsageError(f"{path}: not a TOML file: {error}") from None
    tables = document.pop("topic", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError(
            f"{path}: topic: expected [[topic]] tables with name and secret_file, or ticket_file"
        )
    config = _build(Config, document, f"{path}: ", ("topic",))
    if config.transport == ():  # useful only for programs that join no topic
        raise UsageError(f"{path}: transport must name each transport once, such as streams,quic; not ''")
    return config, tuple(
        _build(TopicTable, table, f"{path}: topic[{index}].") for index, table in enumerate(tables)
    )


def _build(cls: type[T], table: Mapping[str, Any], where: str, others: tuple[str, ...] = ()) -> T:
    """
    Create an instance of an attrs class from a TOML table.

    @param where: the prefix of error messages, up to the key.
    @param others: keys that are allowed beside it, for error messages.
    """
    hints = get_type_hints(cls)
    for key in table:
        if key not in hints:
            expected = ", ".join([*hints, *others])
            raise UsageError(f"{where}{key[:80]}: unknown key; expected one of {expected}")
    for attribute in fields(cls):
        if attribute.default is NOTHING and attribute.name not in table:
            raise UsageError(f"{where}{attribute.name}: missing")
    arguments = {key: _convert(hints[key], value, f"{where}{key}") for key, value in table.items()}
    try:
        return cls(**arguments)
    except UsageError as error:
        raise UsageError(f"{where}{error}") from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    """
    Convert a TOML value to the annotated type of an attrs field.
    """
    if get_origin(hint) is types.UnionType:  # the only unions here are X | None
        hint = get_args(hint)[0]
    if hasattr(hint, "__attrs_attrs__"):
        if not isinstance(value, dict):
            raise UsageError(f"{where}: expected a table, not {_shown(value)}")
        return _build(hint, value, f"{where}.")
    if hint == HostPort:
        return _host_port(value, where)
    if hint == tuple[HostPort, ...]:
        if not isinstance(value, list):
            raise UsageError(f'{where}: expected a list of "HOST:PORT", not {_shown(value)}')
        return tuple(_host_port(item, where) for item in value)
    if hint == tuple[str, ...]:
        if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            raise UsageError(f"{where}: expected a list of strings, not {_shown(value)}")
        return tuple(value)
    expected, accepted = _SCALARS[hint]
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise UsageError(f"{where}: expected {expected}, not {_shown(value)}")
    if hint is not Path:
        return value
    if not is_path(str(value)):
        raise UsageError(f"{where}: expected {expected}, not {_shown(value)}")
    user, _, rest = str(value).partition("/")
    if not user.startswith("~"):
        return Path(str(value))
    try:
        home = home_directory(os.environ) if user == "~" else Path(user).expanduser()
    except RuntimeError:
        home = None
    if home is None:
        raise UsageError(f"{where}: can't find the home directory in {_shown(value)}")
    return home / rest.lstrip("/")


def _host_port(value: Any, where: str) -> HostPort:
    if not isinstance(value, str):
        raise UsageError(f'{where}: expected "HOST:PORT", not {_shown(value)}')
    try:
        return parse_host_port(value)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
