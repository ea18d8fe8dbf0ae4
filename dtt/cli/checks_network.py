"""
The checks of C{dtt doctor} that query the DHT, the router and the slots of a topic.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from random import SystemRandom
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError, gatherResults, maybeDeferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.task import deferLater

from dtt.cli.dht import shown_address
from dtt.cli.dht_ping import resolve
from dtt.cli.findings import Finding, Verdict
from dtt.dht.mapped_address import MappingKind
from dtt.dht.node import DHTNode
from dtt.errors import DTTError, LocalError, RecordRefused, RemoteError
from dtt.events import count_of
from dtt.krpc.bencode import encode
from dtt.krpc.items import immutable_target
from dtt.net.host_port import HostPort
from dtt.portmap import upnp
from dtt.portmap.mapper import Mapping, PortMapper
from dtt.portmap.wire import Transport
from dtt.records.record import open_record
from dtt.records.topic import Slot, TopicId, encryption_key, initial_secret_hash, secret_code
from dtt.tracker.port_mapping import find_router

#: Seconds to wait for a bootstrap host, for the first DHT node, for votes on our address,
#: for the router, and for a slot (guesses).
HOST_TIMEOUT = 4.0
READY_TIMEOUT = 10.0
VOTES_TIMEOUT = 6.0
ROUTER_TIMEOUT = 8.0
SLOT_TIMEOUT = 8.0

#: The number of minutes before and after the current one whose slots are read to find members whose clocks
#: differ.
SKEW = 5


async def bootstrap_hosts(reactor: Any, node: DHTNode, hosts: Sequence[HostPort]) -> list[Finding]:
    """
    Query each bootstrap host.

    @param node: a node that is bound.
    @param hosts: the hosts.
    """

    async def check(name: str, port: int) -> Finding:
        what = f"{name}:{port}"
        try:
            addresses = await resolve(reactor, name, HOST_TIMEOUT)
        except LocalError as error:
            return Finding("bootstrap host", Verdict.WARNING, str(error))
        sides = [(side, host) for host in addresses for side in node.sides if side.family.has(host)]
        if not sides:
            return Finding("bootstrap host", Verdict.NOTE, f"{what} has only IPv6 addresses")
        for side, host in sides[:2]:
            sent = reactor.seconds()
            try:
                query = side.neighbourhood.krpc.query(host, port, b"ping", {})
                await query.addTimeout(HOST_TIMEOUT, reactor)
            except (RemoteError, TimeoutError):
                continue
            milliseconds = (reactor.seconds() - sent) * 1000
            return Finding("bootstrap host", Verdict.GOOD, f"{what} answers after {milliseconds:.0f} ms")
        return Finding("bootstrap host", Verdict.WARNING, f"{what} does not answer")

    return await gatherResults([Deferred.fromCoroutine(check(*host)) for host in hosts])


def all_silent(findings: Sequence[Finding]) -> bool:
    """
    Return whether no bootstrap host has answered.
    """
    return not any(each.verdict is Verdict.GOOD for each in findings)


async def dht(reactor: Any, node: DHTNode, *, silent: bool) -> list[Finding]:
    """
    Start a node, and check whether it finds others.

    @param node: a node that is bound.
    @param silent: whether no bootstrap host has answered.
    """
    began = reactor.seconds()
    node.startService()
    try:
        await node.when_ready().addTimeout(READY_TIMEOUT, reactor)
    except TimeoutError:
        advice = "let UDP pass the firewall of this machine and of its network"
        if not silent:
            advice = "try again; the bootstrap hosts answer"
        return [Finding("UDP out", Verdict.BAD, f"no DHT node answered within {READY_TIMEOUT:g} s", advice)]
    seconds = reactor.seconds() - began
    return [Finding("UDP out", Verdict.GOOD, f"the DHT answers after {seconds:.1f} s")]


async def stored_and_read(reactor: Any, node: DHTNode) -> list[Finding]:
    """
    Store an item, and read it back.

    @param node: a node that is ready.
    """
    value = bytes(encode(b"dtt doctor " + os.urandom(16).hex().encode()))
    began = reactor.seconds()
    try:
        result = await node.put_immutable(value).addTimeout(READY_TIMEOUT, reactor)
        kept = len(result.stored) + len(result.acknowledged)
        read = await node.get_immutable(immutable_target(value)).addTimeout(READY_TIMEOUT, reactor)
    except (RemoteError, TimeoutError) as error:
        reason = str(error) or "it took too long"
        return [Finding("DHT item", Verdict.BAD, f"could not be stored and read back: {reason}", "try again")]
    if read != value:
        return [
            Finding(
                "DHT item",
                Verdict.BAD,
                f"{count_of(kept, 'node')} accepted it, but none returned it",
                "try again",
            )
        ]
    seconds = reactor.seconds() - began
    text = f"stored on {count_of(kept, 'node')} and read back within {seconds:.1f} s"
    return [Finding("DHT item", Verdict.GOOD, f"{text}; {count_of(node.known, 'node')} known")]


async def external_address(reactor: Any, node: DHTNode, own: Sequence[str]) -> list[Finding]:
    """
    Wait for DHT nodes to agree on our address, and report the kind of NAT.

    @param node: a node that is ready, and has queried some others.
    @param own: the addresses of this machine.
    """
    until = reactor.seconds() + VOTES_TIMEOUT
    while node.mapping_kind() is MappingKind.UNKNOWN and reactor.seconds() < until:
        await deferLater(reactor, 0.2)
    votes = node.mapping_votes()[0]
    seen = [shown_address(*each) for each in node.mapped()]
    networks = f"as nodes in {count_of(votes.voters, 'network')} see it"
    found = []
    kind = node.mapping_kind()
    if kind is MappingKind.UNKNOWN:
        found.append(
            Finding(
                "NAT", Verdict.NOTE, f"unknown: only {count_of(votes.voters, 'network')} reported our address"
            )
        )
    elif kind is MappingKind.SYMMETRIC:
        found.append(
            Finding(
                "NAT",
                Verdict.WARNING,
                f"symmetric, {networks}: {', '.join(node.mapped_hosts())}, a different port for each "
                "destination",
                "two members behind such NATs can't connect directly; open ports on the router, or run one "
                "member that all can reach",
            )
        )
    elif any(host in own for host, _ in node.mapped()):
        found.append(Finding("NAT", Verdict.GOOD, f"none: this machine is {', '.join(seen)}, {networks}"))
    else:
        found.append(
            Finding("NAT", Verdict.GOOD, f"the same port for all destinations: {', '.join(seen)}, {networks}")
        )
    strangers = sum(side.neighbourhood.strangers for side in node.sides)
    if strangers:
        text = f"nodes that we had not queried have sent {count_of(strangers, 'datagram')}"
        found.append(Finding("UDP in", Verdict.GOOD, text))
    else:
        found.append(
            Finding(
                "UDP in",
                Verdict.NOTE,
                "no node that we had not queried has reached this machine yet; this is usual in the first "
                "minutes, and behind a NAT or a firewall",
            )
        )
    return found


async def port_mapping(reactor: Any, port: int) -> list[Finding]:
    """
    Ask the router to map a port, and remove the mapping.

    @param port: our UDP port.
    """
    if find_router("0.0.0.0") is None:
        return [Finding("port mapping", Verdict.NOTE, "not needed, or no router: no private address")]
    mapped: Deferred[Mapping] = Deferred()

    def changed(mapping: Mapping, is_new: bool) -> None:
        if is_new and not mapped.called:
            mapped.callback(mapping)

    further = upnp.UPnP(reactor) if upnp.is_installed() and IReactorFromThreads.providedBy(reactor) else None
    mapper = PortMapper(reactor, SystemRandom(), lambda: find_router("0.0.0.0"), changed, further)
    mapper.want(Transport.UDP, port)
    mapper.startService()
    try:
        mapping = await mapped.addTimeout(ROUTER_TIMEOUT, reactor)
    except TimeoutError:
        more = "" if upnp.is_installed() else "; pip install 'distributed-topic-tracker[upnp]' adds UPnP"
        return [
            Finding(
                "port mapping",
                Verdict.NOTE,
                "the router does not open ports (PCP, NAT-PMP)",
                f"not needed if the NAT uses the same port for all destinations{more}",
            )
        ]
    finally:
        await maybeDeferred(mapper.stopService)
    if mapping.host is None:
        text = (
            f"the router opens ports ({mapping.method}): {mapping.external}; it does not report its address"
        )
        return [Finding("port mapping", Verdict.NOTE, text)]
    outside = shown_address(mapping.host, mapping.external)
    if mapping.is_public:
        return [
            Finding("port mapping", Verdict.GOOD, f"the router opens ports ({mapping.method}): {outside}")
        ]
    return [
        Finding(
            "port mapping",
            Verdict.WARNING,
            f"the router opens ports ({mapping.method}), but is itself behind a NAT: {outside}",
        )
    ]


def fingerprint(topic_id: TopicId, secret: bytes, minute: int) -> Iterator[Finding]:
    """
    Report the values that both sides must compare.

    @param minute: the current unix minute.
    """
    code = secret_code(Slot(topic_id, minute), secret)
    yield Finding(
        "topic",
        Verdict.NOTE,
        f"{topic_id.label}: id {topic_id.hex()[:10]}..., secret code {code} in this hour",
        "both must be the same on the other side",
    )


async def slots(
    reactor: Any, node: DHTNode, topic_id: TopicId, secret: bytes, minute: int, own_id: bytes
) -> list[Finding]:
    """
    Read the slots of a topic around the current minute.

    @param node: a node that is ready.
    @param minute: the current unix minute.
    @param own_id: our peer id, whose records are not counted; empty: none.
    """
    secret_hash = initial_secret_hash(secret)

    async def read(offset: int) -> tuple[int, set[bytes], int]:
        slot = Slot(topic_id, minute + offset)
        try:
            answered = await node.get_mutable(slot.public_key, slot.salt).addTimeout(SLOT_TIMEOUT, reactor)
        except (DTTError, TimeoutError):
            return offset, set(), 0
        key = encryption_key(slot, secret_hash)
        members, unreadable = set(), 0
        for value in answered.values():
            try:
                members.add(open_record(value, slot, key).publisher)
            except RecordRefused:
                unreadable += 1
        return offset, members - {own_id}, unreadable

    near = await gatherResults([Deferred.fromCoroutine(read(offset)) for offset in (0, -1)])
    members: set[bytes] = set().union(*(found for _, found, _ in near))
    unreadable = sum(count for _, _, count in near)
    found = []
    if members:
        found.append(Finding("members", Verdict.GOOD, f"records of {len(members)} in the last two minutes"))
    if unreadable:
        found.append(
            Finding(
                "secret",
                Verdict.WARNING if members else Verdict.BAD,
                f"{count_of(unreadable, 'record')} in these slots that our secret does not decrypt",
                "compare the secret code above on both sides",
            )
        )
    if found:
        return found
    far = [offset for step in range(1, SKEW + 1) for offset in (step, -1 - step)]
    skewed: list[int] = []
    for offset, others, unopened in await gatherResults([Deferred.fromCoroutine(read(each)) for each in far]):
        if others or unopened:
            skewed.append(offset)
    if skewed:
        offset = min(skewed, key=abs)
        direction = "ahead of" if offset > 0 else "behind"
        return [
            Finding(
                "members",
                Verdict.BAD,
                f"there are records {count_of(abs(offset), 'minute')} {direction} the clock of this machine",
                "a clock is wrong, here or there: compare them, and switch on NTP; or the members have left",
            )
        ]
    return [
        Finding(
            "members",
            Verdict.NOTE,
            "no record within five minutes before and after now: no other member is running, or it "
            "has another "
            "topic",
        )
    ]
