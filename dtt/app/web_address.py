"""
The option C{--web}: where the status page is served.
"""

from __future__ import annotations

import ipaddress

from dtt.net.host_port import HostPort, parse_host_port, parse_port

#: The address if only a port is given: this machine alone.
LOOPBACK = "127.0.0.1"


def parse_web(text: str) -> HostPort:
    """
    Parse C{tcp:PORT}, C{tcp:PORT:interface=HOST} (the form of Twisted's endpoints), or
    C{HOST:PORT}.

    @return: an IP literal and a port.
    @raise ValueError: it is something else.
    """
    if not text.startswith("tcp:"):
        try:
            host, port = parse_host_port(text)
        except ValueError:
            raise ValueError(f"expected tcp:PORT or tcp:PORT:interface=HOST, not {text[:80]!r}") from None
    else:
        number, _, rest = text.removeprefix("tcp:").partition(":")
        port, host = parse_port(number), LOOPBACK
        if rest:
            key, equals, host = rest.replace("\\:", ":").partition("=")
            if key != "interface" or not equals:
                raise ValueError(f"expected tcp:PORT:interface=HOST, not {text[:80]!r}")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"{host[:80]!r} is not an IP address of this machine") from None
    return host, port
