"""
Parsing of C{HOST:PORT} from the command line and the configuration. Pure.
"""

from __future__ import annotations

from typing import TypeAlias

from dtt.errors import UsageError

#: A host name or an IP literal, and a port.
HostPort: TypeAlias = tuple[str, int]


def parse_host_port(text: str) -> HostPort:
    """
    Parse C{host:port}; an IPv6 address is in brackets. The port is 0..65535.

    @raise UsageError: C{text} has another form.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise UsageError(f"{text!r} is not HOST:PORT (for instance 192.0.2.1:6881 or [2001:db8::1]:6881)")
    return host, int(port)
