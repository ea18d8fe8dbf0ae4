"""
The name server of hosts without Internet access: C{python -m tests.interop.name_server
ADDRESS ORIGIN SERVER NAME=ADDRESS...} answers on C{ADDRESS} for each C{NAME}, forwards
queries for names under C{ORIGIN} to C{SERVER}, and knows no others.

It prints C{ready}, and then C{asked} for each query, as JSON lines: C{name}, C{type},
C{by} (an IP address) and C{answers}, as far as they are addresses or texts. A line on its
standard input is a name under C{ORIGIN}: once that has texts it prints C{published}, with
C{name} and C{answers}.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.stdio import StandardIO
from twisted.internet.task import deferLater, react
from twisted.names import client, dns, error, server
from twisted.protocols.basic import LineOnlyReceiver

from tests.interop.actors import emit


def _texts(records: Sequence[Any]) -> list[str]:
    return [words for record in records if (words := _words(record))]


def _words(record: Any) -> str | None:
    payload = record.payload
    if isinstance(payload, dns.Record_A | dns.Record_AAAA):
        return payload.dottedQuad() if isinstance(payload, dns.Record_A) else str(payload.address)
    return b"".join(payload.data).decode() if isinstance(payload, dns.Record_TXT) else None


class Names:
    """
    The known names, as an C{IResolver} as far as it is used.
    """

    def __init__(self, reactor: Any, origin: str, origin_server: str, addresses: dict[str, str]) -> None:
        self._origin = origin
        self._client = client.Resolver(servers=[(origin_server, dns.PORT)], reactor=reactor)
        self._addresses = addresses

    def query(self, query: Any, timeout: Any = None) -> Deferred[Any]:
        """
        The answers, authorities and additional records.
        """
        name = query.name.name.decode().lower().rstrip(".")
        address = self._addresses.get(name)
        if address is not None:
            record = dns.RRHeader(query.name.name, dns.A, ttl=60, payload=dns.Record_A(address))
            return succeed(([record] if query.type == dns.A else [], [], []))
        if name == self._origin or name.endswith("." + self._origin):
            asking: Deferred[Any] = self._client.query(query, timeout)
            return asking
        return fail(error.DNSNameError(query))


class Server(server.DNSServerFactory):
    """
    Prints the queries it gets.
    """

    def gotResolverResponse(self, response: Any, protocol: Any, message: Any, address: Any) -> None:
        """
        Print a query with its answers.
        """
        self._tell(message, address, _texts(response[0]))
        super().gotResolverResponse(response, protocol, message, address)

    def gotResolverError(self, failure: Any, protocol: Any, message: Any, address: Any) -> None:
        """
        Print a query without an answer.
        """
        self._tell(message, address, [])
        super().gotResolverError(failure, protocol, message, address)

    def _tell(self, message: Any, address: Any, answers: list[str]) -> None:
        query = message.queries[0]
        kind = dns.QUERY_TYPES.get(query.type, str(query.type))
        name = query.name.name.decode(errors="replace").lower().rstrip(".")
        emit("asked", name=name, type=kind, by=address[0] if address else None, answers=answers)


class Commands(LineOnlyReceiver):
    """
    Waits until names have texts.
    """

    delimiter = b"\n"

    def __init__(self, reactor: Any, names: Names) -> None:
        self._reactor = reactor
        self._names = names

    def lineReceived(self, line: bytes) -> None:
        """
        Wait for the texts of a name.
        """
        Deferred.fromCoroutine(self._wait(line)).addErrback(lambda failure: failure.printTraceback())

    async def _wait(self, name: bytes) -> None:
        texts: list[str] = []
        while not texts:
            with suppress(error.DomainError):
                texts = _texts((await self._names.query(dns.Query(name, dns.TXT)))[0])
            await deferLater(self._reactor, 0.05)
        emit("published", name=name.decode(), answers=texts)


def main(reactor: Any, address: str, origin: str, origin_server: str, *names: str) -> Deferred[None]:
    """
    Run the command.
    """
    known = Names(reactor, origin, origin_server, dict(name.split("=", 1) for name in names))
    factory = Server(clients=[known])
    reactor.listenUDP(dns.PORT, dns.DNSDatagramProtocol(factory, reactor=reactor), interface=address)
    reactor.listenTCP(dns.PORT, factory, interface=address)
    StandardIO(Commands(reactor, known), reactor=reactor)
    emit("ready")
    return Deferred()


if __name__ == "__main__":
    react(main, sys.argv[1:])
