"""
A snapshot of a service, as the tests of commands use it.
"""

from __future__ import annotations

import json
from typing import Any

from dtt.records.topic import TopicId
from dtt.tracker.status import (
    DHTStatus,
    EventStatus,
    FindStatus,
    MappingStatus,
    NATStatus,
    NeighborStatus,
    RecordsStatus,
    RecordStatus,
    TopicStatus,
    TrackerStatus,
    as_json,
)

GARDEN = TopicId.from_name("garden party")

NOW = 1_800_000_000.0

JOINED = TopicStatus(
    topic_id=GARDEN,
    label="garden party",
    state="joined",
    doing="has a neighbour, so it does not search",
    since=NOW - 3700,
    neighbors=(
        NeighborStatus(
            peer_id=b"\x11" * 32,
            since=NOW - 90,
            transport="quic",
            address="1.2.3.4:5",
            round_trip=0.04,
            found_by="record_slot",
        ),
        NeighborStatus(peer_id=b"\x22" * 32, since=NOW - 5),
    ),
    known_peers=7,
    records=RecordsStatus(
        found=2,
        unreadable=3,
        recent=(RecordStatus(publisher=b"\x33" * 32, minute=1, channel="record_slot", seen=NOW - 60),),
    ),
    finds=(FindStatus(channel="record_slot", found=4, joined=1), FindStatus(channel="lan")),
    messages_received=5,
    messages_sent=6,
)

ALONE = TopicStatus(
    topic_id=b"\xab" * 32,
    label="\x1b[2Jevil",
    state="searching",
    doing="reads slots",
    since=NOW - 60,
    reason="there is no record of another member",
)

STATUS = TrackerStatus(
    version="0.1.0",
    peer_id=b"\x01" * 32,
    state="running",
    time=NOW,
    started=NOW - 90000,
    uptime=90000,
    dht=DHTStatus(
        ready=True,
        node_id=bytes(20),
        port=6881,
        nodes=200,
        round_trip=0.12,
        nat=(NATStatus(family="ipv4", kind="symmetric", voters=5),),
    ),
    listen=("streams:0.0.0.0:4040",),
    addresses=("streams:1.2.3.4:4040",),
    mappings=(MappingStatus(protocol="UDP", port=6881, outside="1.2.3.4:6881", method="PCP", listed=True),),
    topics=(JOINED, ALONE),
    events=(EventStatus(time=NOW - 30, name="topic.alone", text="No neighbour.", is_warning=True),),
)


def snapshot(status: TrackerStatus = STATUS) -> dict[str, Any]:
    """Return a snapshot as the service sends it."""
    value: dict[str, Any] = json.loads(json.dumps(as_json(status)))
    return value


class Client:
    """A service that answers from memory."""

    def __init__(self, status: TrackerStatus = STATUS, neighbors: int = 2) -> None:
        self.snapshot = snapshot(status)
        self.neighbors = neighbors
        self.sent: list[tuple[bytes, bytes]] = []

    async def status(self) -> dict[str, Any]:
        return self.snapshot

    async def send(self, topic_id: bytes, content: bytes) -> int:
        self.sent.append((topic_id, content))
        return self.neighbors
