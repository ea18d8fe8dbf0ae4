"""
Settings, as frozen attrs classes.

L{load_toml} reads them from a TOML file; errors are L{UsageError}s that name
the file, the key and what was expected.  Defaults marked "records" are those of
docs/protocol/records.md section 6, which are upstream's.  All intervals and
timeouts are in seconds.
"""

from __future__ import annotations

import ipaddress
import string
import tomllib
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from attrs import NOTHING, Attribute, AttrsInstance, field, fields, frozen
from attrs.validators import optional

from dtt.errors import UsageError
from dtt.net.host_port import HostPort, parse_host_port
from dtt.wire.addresses import MAX_RELAY_URL

#: The public bootstrap hosts.  docs/protocol/interop.md section 1 names the four of
#: the Rust crate; router.utorrent.com is the customary fifth with libtorrent.
PUBLIC_BOOTSTRAP: tuple[HostPort, ...] = (
    ("router.bittorrent.com", 6881),
    ("dht.transmissionbt.com", 6881),
    ("dht.libtorrent.org", 25401),
    ("router.utorrent.com", 6881),
    ("relay.pkarr.org", 6881),
)

#: For each scalar type of a field: its name in error messages, and the types that
#: the TOML parser yields for it.
_SCALARS: Mapping[Any, tuple[str, tuple[type, ...]]] = {
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
    str: ("a string", (str,)),
    Path: ("a path (a string)", (str,)),
}

#: The accepted values of C{transport} and of C{preset} of C{[iroh]}.
TRANSPORTS = ("streams", "iroh", "both")
IROH_PRESETS = ("none", "n0")

#: The characters allowed in the base URL of a relay (RFC 3986, without user, query
#: and fragment).
_URL_CHARACTERS = frozenset(string.ascii_letters + string.digits + "-._~:/[]!$&'()*+,;%")

T = TypeVar("T", bound=AttrsInstance)


def _at_least(minimum: float) -> Callable[[Any, Attribute[Any], Any], None]:
    def check(instance: Any, attribute: Attribute[Any], value: Any) -> None:
        if not value >= minimum or value == float("inf"):
            raise UsageError(f"{attribute.name} must be a finite number of at least {minimum}, not {value!r}")

    return check


def _port(instance: Any, attribute: Attribute[Any], value: int) -> None:
    if not 0 <= value < 65536:
        raise UsageError(f"{attribute.name} must be 0..65535, not {value!r}")


def _pair(instance: Any, attribute: Attribute[Any], value: HostPort) -> None:
    match value:
        case (str(), int() as port):
            _port(instance, attribute, port)
        case _:
            raise UsageError(f'{attribute.name} must be ("HOST", PORT), not {value!r}')


def _pairs(instance: Any, attribute: Attribute[Any], value: tuple[HostPort, ...]) -> None:
    for each in value:
        _pair(instance, attribute, each)


def _path(value: str | Path | None) -> Path | None:
    return None if value is None else Path(value)


def _listen(instance: Any, attribute: Attribute[Any], value: HostPort) -> None:
    _pair(instance, attribute, value)
    host, _ = value
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise UsageError(f"{attribute.name} must be an IP address of this machine, not {host!r}") from None


def _bind(instance: Any, attribute: Attribute[Any], value: str) -> None:
    try:
        ipaddress.IPv4Address(value or "0.0.0.0")
    except ValueError:
        raise UsageError(f"{attribute.name} must be an IPv4 address of this machine, not {value!r}") from None


def _bind6(instance: Any, attribute: Attribute[Any], value: str) -> None:
    try:
        ipaddress.IPv6Address(value or "::")
    except ValueError:
        raise UsageError(f"{attribute.name} must be an IPv6 address of this machine, not {value!r}") from None


def _one_of(*allowed: str | None) -> Callable[[Any, Attribute[Any], Any], None]:
    def check(instance: Any, attribute: Attribute[Any], value: Any) -> None:
        if value not in allowed:
            names = ", ".join(name for name in allowed if name is not None)
            raise UsageError(f"{attribute.name} must be one of {names}, not {value!r}")

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


@frozen(slots=True)
class DHTConfig:
    """
    The DHT node, and the timeouts and retries of reads and puts of records.

    @ivar port: UDP port; 0: the system chooses one at the first start, and
        later starts reuse it.
    @ivar bind: the local IPv4 address to bind; empty: all.
    @ivar bind6: the local IPv6 address to bind, C{::} for all; empty, the
        default: no IPv6, because not every host has it.
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
    bind6: str = field(default="", validator=_bind6)
    bootstrap: tuple[HostPort, ...] = field(default=PUBLIC_BOOTSTRAP, validator=_pairs)
    upload_rate: float = field(default=8000.0, validator=_at_least(1000))
    retries: int = _count(3)
    base_retry_interval: float = _duration(5.0)
    max_retry_jitter: float = _duration(10.0)
    get_timeout: float = field(default=10.0, validator=_at_least(0.1))
    put_timeout: float = field(default=10.0, validator=_at_least(0.1))


@frozen(slots=True)
class BootstrapConfig:
    """
    The fetcher, which searches while there is no neighbour.  All defaults: records.

    @ivar max_bootstrap_records: don't publish to a slot that holds this many
        records of other members; 0: never publish.
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


@frozen(slots=True)
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


@frozen(slots=True)
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


@frozen(slots=True)
class MessageOverlapMergeConfig:
    """
    Message overlap merge, which joins members whose records list messages, but
    none of those that we have received.  All defaults: records.

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


@frozen(slots=True)
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


@frozen(slots=True)
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
    relays: tuple[str, ...] = field(default=(), validator=_relay_urls)


@frozen(slots=True)
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
    relays: tuple[str, ...] = field(default=(), validator=_relay_urls)
    relay_interval: float = field(default=300.0, validator=_at_least(60))


@frozen(slots=True)
class Config:
    """
    All settings of a tracker.

    @ivar state_dir: the directory for the key, the ports, the known DHT nodes
        and the addresses of members; C{None}: a temporary identity, and
        nothing on disk.
    @ivar transport: how members connect: C{streams}, C{iroh} or C{both};
        C{None}: both if the C{iroh} package is installed, else streams.
    @ivar listen: (IP, TCP port) of the streams transport; port 0: the system
        chooses one at the first start, and later starts reuse it.
    @ivar iroh: the iroh transport.
    @ivar dht: the DHT node.
    @ivar bootstrap: the fetcher.
    @ivar publisher: the publisher.
    @ivar bubble_merge: bubble merge.
    @ivar message_overlap_merge: message overlap merge.
    @ivar timeouts: timeouts of gossip operations.
    @ivar addresses: publication and lookup of addresses.
    """

    state_dir: Path | None = field(default=None, converter=_path)
    transport: str | None = field(default=None, validator=_one_of(None, *TRANSPORTS))
    listen: HostPort = field(default=("0.0.0.0", 0), validator=_listen)
    iroh: IrohConfig = field(factory=IrohConfig)
    dht: DHTConfig = field(factory=DHTConfig)
    bootstrap: BootstrapConfig = field(factory=BootstrapConfig)
    publisher: PublisherConfig = field(factory=PublisherConfig)
    bubble_merge: BubbleMergeConfig = field(factory=BubbleMergeConfig)
    message_overlap_merge: MessageOverlapMergeConfig = field(factory=MessageOverlapMergeConfig)
    timeouts: TimeoutsConfig = field(factory=TimeoutsConfig)
    addresses: AddressesConfig = field(factory=AddressesConfig)


@frozen(slots=True)
class TopicTable:
    """
    One C{[[topic]]} of a TOML file.

    @ivar name: as for C{--topic}: a name, or C{hex:} and 64 hexadecimal digits.
    @ivar secret_file: the file with the secret; C{None}: the empty secret.
    """

    name: str
    secret_file: Path | None = None


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
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a TOML file: {error}") from None
    tables = document.pop("topic", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{path}: topic: expected [[topic]] tables with name and secret_file")
    config = _build(Config, document, f"{path}: ")
    return config, tuple(
        _build(TopicTable, table, f"{path}: topic[{index}].") for index, table in enumerate(tables)
    )


def _build(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """
    Make an instance of an attrs class from a TOML table.

    @param where: the prefix of error messages, up to the key.
    """
    hints = get_type_hints(cls)
    for key in table:
        if key not in hints:
            raise UsageError(f"{where}{key}: unknown key; expected one of {', '.join(hints)}")
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
            raise UsageError(f"{where}: expected a table, not {value!r}")
        return _build(hint, value, f"{where}.")
    if hint == HostPort:
        return _host_port(value, where)
    if hint == tuple[HostPort, ...]:
        if not isinstance(value, list):
            raise UsageError(f'{where}: expected a list of "HOST:PORT", not {value!r}')
        return tuple(_host_port(item, where) for item in value)
    if hint == tuple[str, ...]:
        if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            raise UsageError(f"{where}: expected a list of strings, not {value!r}")
        return tuple(value)
    expected, accepted = _SCALARS[hint]
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise UsageError(f"{where}: expected {expected}, not {value!r}")
    if hint is not Path:
        return value
    if "\0" in str(value):  # no file system allows it
        raise UsageError(f"{where}: expected {expected}, not {value!r}")
    try:
        return Path(str(value)).expanduser()
    except RuntimeError:
        raise UsageError(f"{where}: can't find the home directory in {value!r}") from None


def _host_port(value: Any, where: str) -> HostPort:
    if not isinstance(value, str):
        raise UsageError(f'{where}: expected "HOST:PORT", not {value!r}')
    try:
        return parse_host_port(value)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
