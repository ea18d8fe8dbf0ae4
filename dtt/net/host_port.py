"""
Parsing of C{HOST:PORT} from the command line and the configuration. Pure.
"""

from __future__ import annotations

import ipaddress
from typing import TypeAlias

from dtt.errors import UsageError

#: Printable characters that no host name or IP literal contains.
_NEVER_IN_HOSTS = frozenset("/@?#[]: ")

#: The maximum length of a host name in characters (RFC 1035 section 2.3.4).
MAX_HOST = 253

#: A host name or an IP literal, and a port.
HostPort: TypeAlias = tuple[str, int]


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def parse_port(text: str) -> int:
    """
    Parse a UDP or TCP port.

    @raise UsageError: it is not a number in 0..65535.
    """
    # int() accepts digits of other scripts, and no more than some thousand digits.
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{text[:80]!r} is not a port, 0..65535")
    digits = text.lstrip("0") or "0"
    if len(digits) > 5 or int(digits) > 65535:
        raise UsageError(f"port {text[:80]} is out of range; ports are 0..65535")
    return int(digits)


def parse_host_port(text: str) -> HostPort:
    """
    Parse C{host:port}; an IPv6 address is in brackets. The port is 0..65535.

    @raise UsageError: C{text} has another form.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        good = _is_ipv6(host)
    else:
        good = bool(host) and host.isprintable() and not set(host) & _NEVER_IN_HOSTS
    if not (colon and good and len(host) <= MAX_HOST and port.isascii() and port.isdigit()):
        raise UsageError(
            f"{text[:80]!r} is not HOST:PORT (for instance 192.0.2.1:6881 or [2001:db8::1]:6881)"
        )
    try:
        return host, parse_port(port)
    except UsageError as error:
        raise UsageError(f"{text[:80]!r}: {error}") from None
