"""
Settings: frozen attrs classes; every default says where it comes from.

TOML goes in through L{load_toml}; what is wrong comes out as a L{UsageError}
that names the file, the key and what was expected.  Defaults marked "records"
are those of docs/protocol/records.md section 6, which are upstream's.  All intervals
and times are seconds.
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

#: Where a node that knows nobody asks first: docs/protocol/interop.md section 1 names
#: the Rust crate's four; router.utorrent.com is libtorrent users' usual fifth.
PUBLIC_BOOTSTRAP: tuple[HostPort, ...] = (
    ("router.bittorrent.com", 6881),
    ("dht.transmissionbt.com", 6881),
    ("dht.libtorrent.org", 25401),
    ("router.utorrent.com", 6881),
    ("relay.pkarr.org", 6881),
)

#: What a field's type is called in a message, and what TOML gives for it.
_SCALARS: Mapping[Any, tuple[str, tuple[type, ...]]] = {
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
    str: ("a string", (str,)),
    Path: ("a path (a string)", (str,)),
}

#: How members may reach each other, and whose servers iroh may use.
TRANSPORTS = ("streams", "iroh", "both")
IROH_PRESETS = ("none", "n0")

#: Of the base URL of a relay (RFC 3986, without user, query and fragment).
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
        raise UsageError(f"{attribute.name} must name an IP of this machine, not {host!r}") from None


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
    The base URL of a relay: C{http} or C{https}, a host, maybe a port and a path.
    It stands in events and logs, so no user and password.

    @raise UsageError: it is none.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or len(url) > MAX_RELAY_URL or not _URL_CHARACTERS.issuperset(url):
        # What stands before an @ may be a password.
        raise UsageError(f"{url.rpartition('@')[2][:80]!r} is no URL of a relay (https://HOST/)")


def _relay_urls(instance: Any, attribute: Attribute[Any], value: tuple[str, ...]) -> None:
    for url in value:
        try:
            check_relay_url(url)
        except UsageError as error:
            raise UsageError(f"{attribute.name}: {error}") from None


def _interval(default: float) -> Any:
    """
    An interval of a periodic service: never below 1 s (records).
    """
    return field(default=default, validator=_at_least(1))


def _duration(default: float) -> Any:
    return field(default=default, validator=_at_least(0))


def _count(default: int) -> Any:
    return field(default=default, validator=_at_least(0))


@frozen(slots=True)
class DHTConfig:
    """
    The DHT node, and how often and how long a record is tried.

    @ivar port: UDP; 0: any at first, then the same one over restarts.
    @ivar bind: the local IPv4 address to bind; empty for all.
    @ivar bind6: the local IPv6 address to bind, C{::} for all; empty for no
        IPv6: the default, since not every host has it.
    @ivar bootstrap: (host, port) pairs asked for a start; names or IPs.
    @ivar upload_rate: bytes a second that answers to others may take; our own
        lookups are not limited by it.
    @ivar retries: how often a failed put is tried again (records).
    @ivar base_retry_interval: before each retry (records).
    @ivar max_retry_jitter: at most this much is added to it (records).
    @ivar get_timeout: for one read of a slot (records).
    @ivar put_timeout: for one put of a record (records).
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
    The fetcher: from knowing nobody to the first neighbour.  All defaults: records.

    @ivar max_bootstrap_records: a slot that holds this many records of others
        gets none of ours; 0: never publish.
    @ivar no_peers_retry_interval: between two reads that find nobody.
    @ivar per_peer_join_settle_time: after each candidate.
    @ivar join_confirmation_wait_time: after all candidates.
    @ivar discovery_poll_interval: between two reads that found somebody.
    @ivar publish_record_on_startup: put an empty record at once.
    @ivar check_older_records_first_on_startup: read minute-2 and minute-1 first.
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
    The publisher: stays visible, once joined.  All defaults: records.

    @ivar initial_delay: before the first record.
    @ivar base_interval: between two, plus
    @ivar max_jitter: at most this much, uniformly.
    """

    enabled: bool = True
    initial_delay: float = _duration(10.0)
    base_interval: float = _interval(10.0)
    max_jitter: float = _duration(50.0)


@frozen(slots=True)
class BubbleMergeConfig:
    """
    Bubble merge: joins other bubbles while there are few neighbours.  All
    defaults: records.

    @ivar min_neighbors: does nothing with at least this many.
    @ivar max_join_peers: joins at most this many in one tick.
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
    Message overlap merge: joins members that heard none of our messages.  All
    defaults: records.

    @ivar max_join_peers: joins at most this many in one tick.
    """

    enabled: bool = True
    initial_interval: float = _interval(30.0)
    base_interval: float = _interval(60.0)
    max_jitter: float = _duration(120.0)
    max_join_peers: int = _count(2)


@frozen(slots=True)
class TimeoutsConfig:
    """
    How long an operation of the gossip may take.  All defaults: records.

    @ivar join_peer: for the address and the dial of one peer.
    @ivar broadcast: for the neighbours to take a broadcast.
    @ivar broadcast_neighbors: the same, of one to neighbours only.
    """

    join_peer: float = field(default=5.0, validator=_at_least(0.1))
    broadcast: float = field(default=5.0, validator=_at_least(0.1))
    broadcast_neighbors: float = field(default=5.0, validator=_at_least(0.1))


@frozen(slots=True)
class IrohConfig:
    """
    The iroh transport, which Rust peers speak (extra C{iroh}).

    @ivar listen: (IP, port), UDP; port 0: any at first, then the same one over
        restarts; L{None}: any port of the IP that the streams transport listens on.
    @ivar preset: C{none}: no server of anyone's.  C{n0}: the relays, DNS and
        pkarr publishing of n0, which most Rust programs use and which help behind NATs.
    @ivar relays: URLs of relays of one's own, used in place of the preset's.
    """

    listen: HostPort | None = field(default=None, validator=optional(_listen))
    preset: str = field(default="none", validator=_one_of(*IROH_PRESETS))
    relays: tuple[str, ...] = field(default=(), validator=_relay_urls)


@frozen(slots=True)
class AddressesConfig:
    """
    How peers find each other's addresses: signed packets of pkarr
    (docs/protocol/addresses.md).  Intervals: docs/protocol/addresses.md section 1.

    @ivar pkarr: use the DHT for them.
    @ivar publish: publish our own, and not only look for those of others.
    @ivar pkarr_interval: between two times in the DHT.
    @ivar relays: base URLs of pkarr relays; none: fully decentralised.
    @ivar relay_interval: between two times at a relay.
    """

    pkarr: bool = True
    publish: bool = True
    pkarr_interval: float = field(default=3600.0, validator=_at_least(60))
    relays: tuple[str, ...] = field(default=(), validator=_relay_urls)
    relay_interval: float = field(default=300.0, validator=_at_least(60))


@frozen(slots=True)
class Config:
    """
    Everything that a tracker can be told.

    @ivar state_dir: where the key, the ports and the known DHT nodes are kept;
        L{None}: a key of the moment, nothing on disk.
    @ivar transport: how members reach each other: C{streams}, C{iroh} or
        C{both}; L{None}: both when the C{iroh} package is installed, else streams.
    @ivar listen: (IP, port) of the streams transport; port 0: any at first,
        then the same one over restarts.
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

    @ivar name: as after C{--topic}: a name, or C{hex:} and 64 digits.
    @ivar secret_file: the file that holds its secret; L{None}: the empty secret.
    """

    name: str
    secret_file: Path | None = None


def load_toml(path: Path) -> tuple[Config, tuple[TopicTable, ...]]:
    """
    Read a configuration file.

    @raise UsageError: unreadable, not TOML, an unknown key, a wrong type or an
        impossible value; the message says where and what was expected.
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
    An attrs class from a TOML table.

    @param where: what messages start with, up to the key.
    """
    hints = get_type_hints(cls)
    for key in table:
        if key not in hints:
            raise UsageError(f"{where}{key}: unknown; expected one of {', '.join(hints)}")
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
    A TOML value as the type that an attrs field is annotated with.
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
    if "\0" in str(value):  # no system has such paths
        raise UsageError(f"{where}: expected {expected}, not {value!r}")
    try:
        return Path(str(value)).expanduser()
    except RuntimeError:
        raise UsageError(f"{where}: {value!r} begins with a home directory that is not known") from None


def _host_port(value: Any, where: str) -> HostPort:
    if not isinstance(value, str):
        raise UsageError(f'{where}: expected "HOST:PORT", not {value!r}')
    try:
        return parse_host_port(value)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
