"""
A snapshot of the service as text, for C{dtt status} and C{dtt peers}.  Pure.

A snapshot is what C{/v1/status} returns (docs/reference/http.md): a
L{TrackerStatus<dtt.tracker.status.TrackerStatus>} as JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dtt.app.helptext import wrap

_UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))

#: The descriptions of the kinds of NATs.
_NATS = {"none": "none", "endpoint-independent": "one port for all destinations", "symmetric": "symmetric"}

#: The number of recent warnings that are shown (guess).
WARNINGS = 3


def span(seconds: float) -> str:
    """
    Return a duration in the two largest units.
    """
    seconds = max(int(seconds), 0)
    for size, unit, smaller, small_unit in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if seconds >= size:
            rest = seconds % size // smaller
            return f"{seconds // size} {unit} {rest} {small_unit}" if rest else f"{seconds // size} {unit}"
    return f"{seconds} s"


def _plain(text: object) -> str:
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in str(text))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _pairs(width: int, rows: list[tuple[str, str]], indent: int = 0) -> Iterator[str]:
    """
    Yield names and values, one below the other on a narrow terminal.
    """
    names = max(len(name) for name, _ in rows) + 2
    if width < 3 * names:
        for name, value in rows:
            yield f"{'':{indent}}{name}"
            yield from (
                f"{'':{indent + 2}}{line}" for line in wrap(_plain(value), max(width - indent - 2, 1))
            )
        return
    for name, value in rows:
        first, *rest = wrap(_plain(value), max(width - indent - names, 1)) or [""]
        yield f"{'':{indent}}{name:{names}}{first}".rstrip()
        yield from (f"{'':{indent + names}}{line}" for line in rest)


def _dht(dht: Mapping[str, Any]) -> str:
    if not dht["ready"]:
        return f"UDP port {dht['port']}; no node has answered yet"
    parts = [f"UDP port {dht['port']}", f"{_count(dht['nodes'], 'node')} known"]
    if dht["round_trip"] is not None:
        parts.append(f"round trip {dht['round_trip'] * 1000:.0f} ms")
    parts.append(f"{dht['sent_rate']:.1f} datagrams/s out, {dht['received_rate']:.1f} in")
    parts.append(f"{_count(dht['stored_items'], 'item')} stored for others")
    return ", ".join(parts)


def _nat(dht: Mapping[str, Any]) -> str:
    words = {
        "none": "none",
        "endpoint-independent": "one port for all destinations",
        "symmetric": "symmetric",
    }
    parts = []
    for each in dht["nat"]:
        kind = words.get(each["kind"], "not known yet")
        where = (
            f" ({each['mapped']}, as {_count(each['voters'], 'network')} see it)" if each["mapped"] else ""
        )
        parts.append(f"{each['family']}: {kind}{where}")
    return "; ".join(parts) or "not known yet"


def topic_lines(topic: Mapping[str, Any], now: float, width: int) -> Iterator[str]:
    """
    Yield the lines about one topic.

    @param topic: a L{TopicStatus<dtt.tracker.status.TopicStatus>} as JSON.
    @param now: unix seconds.
    @param width: the width in columns.
    """
    records = topic["records"]
    found = f"{records['found']} of other members now"
    if records["unreadable"]:
        found += f", {records['unreadable']} that our secret does not decrypt"
    rows = [("state", f"{topic['state']} for {span(now - topic['since'])}: {topic['doing']}")]
    if topic["reason"]:
        rows.append(("reason", topic["reason"]))
    rows += [
        ("neighbours", f"{len(topic['neighbors'])}, {topic['known_peers']} other members known"),
        ("records", found),
        ("messages", f"{topic['messages_received']} received, {topic['messages_sent']} sent"),
    ]
    finds = [
        f"{each['channel']} {each['found']} ({_count(each['joined'], 'neighbour')})"
        for each in topic["finds"]
        if each["found"]
    ]
    if finds:
        rows.append(("found by", ", ".join(finds)))
    yield from wrap(_plain(topic["label"]), width)
    yield from _pairs(width, rows, 2)


def status_lines(status: Mapping[str, Any], width: int) -> list[str]:
    """
    Return a snapshot as lines.

    @param status: the snapshot.
    @param width: the width in columns.
    """
    reach = ", ".join(status["addresses"]) or status["unreachable"] or "nowhere yet"
    rows = [
        ("version", f"dtt {status['version']}, {status['state']} for {span(status['uptime'])}"),
        ("peer id", status["peer_id"]),
        ("listens on", ", ".join(status["listen"])),
        ("reached at", reach),
        ("DHT", _dht(status["dht"])),
        ("NAT", _nat(status["dht"])),
    ]
    if status["mappings"]:
        mapped = [f"{each['outside']} to {each['protocol']} {each['port']}" for each in status["mappings"]]
        rows.append(("mapped", ", ".join(mapped)))
    rows.append(("connections", f"{status['connections']} of at most {status['max_connections']}"))
    lines = [*_pairs(width, rows)]
    for topic in status["topics"]:
        lines += ["", *topic_lines(topic, status["time"], width)]
    warnings = [each for each in status["events"] if each["is_warning"]][-WARNINGS:]
    if warnings:
        lines += ["", "Last warnings"]
        for each in warnings:
            text = f"{span(status['time'] - each['time'])} ago: {_plain(each['text'])}"
            lines += [f"  {line}" for line in wrap(text, max(width - 2, 1))]
    return lines


def peer_lines(topic: Mapping[str, Any], now: float, width: int) -> list[str]:
    """
    Return the neighbours of a topic, and the members whose records were found, as lines.

    @param topic: a L{TopicStatus<dtt.tracker.status.TopicStatus>} as JSON.
    @param now: unix seconds.
    @param width: the width in columns.
    """
    lines = wrap(_plain(topic["label"]), width)
    near = set()
    rows = []
    for each in topic["neighbors"]:
        near.add(each["peer_id"])
        parts = [each["transport"] or "unknown transport"]
        if each["address"]:
            parts.append(each["address"])
        if each["round_trip"] is not None:
            parts.append(f"{each['round_trip'] * 1000:.0f} ms")
        parts += [f"found by {each['found_by']}", f"neighbour for {span(now - each['since'])}"]
        rows.append((each["peer_id"][:10], ", ".join(parts)))
    latest: dict[str, tuple[str, str]] = {}
    for each in topic["records"]["recent"]:
        if each["publisher"] not in near:
            text = f"record found by {each['channel']} {span(now - each['seen'])} ago"
            latest[each["publisher"]] = (each["publisher"][:10], text)
    rows += latest.values()
    if rows:
        return [*lines, *_pairs(width, rows, 2)]
    return [*lines, *(f"  {line}" for line in wrap("no other member is known", max(width - 2, 1)))]
