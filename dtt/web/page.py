"""
The status page: the snapshot for people.

Rules: the page is complete without JavaScript, which only replaces parts that have changed.
Nothing is loaded from elsewhere, and no style or script is inline (L{CSP}).  Whatever others
have chosen is text, which the templates of twisted.web escape.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Final

from twisted.internet.defer import Deferred
from twisted.web.iweb import IRequest
from twisted.web.template import Element, Flattenable, Tag, XMLString, flattenString, renderer, tags

from dtt.events import EVENTS, Message, count_of, short
from dtt.tracker.status import NeighborStatus, RecordsStatus, TopicStatus, TrackerStatus
from dtt.web.answers import Answer
from dtt.web.pictures import datagram_lines, links, message_lines

#: The policy of the page: only what comes from here, and nothing inline.
CSP: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

#: Events on the page (guess: what a screen shows).
SHOWN_EVENTS: Final = 20

#: The files of the page, and their media types.
FILES: Final = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}

_STATES: Final = {"joined": "good", "searching": "bad", "waiting": "bad", "stopped": "quiet"}


def read(name: str) -> bytes:
    """
    Return the content of a file beside this module.
    """
    return files("dtt.web").joinpath(name).read_bytes()


@lru_cache(maxsize=1)
def _template() -> XMLString:
    return XMLString(read("page.xhtml"))


def asset(name: str) -> Answer:
    """
    Return one of L{FILES}.
    """
    return Answer(200, read(name), FILES[name])


def page(status: TrackerStatus) -> Deferred[Answer]:
    """
    Return the page of a snapshot.
    """
    return flattenString(None, StatusPage(status)).addCallback(
        lambda html: Answer(
            200, b"<!DOCTYPE html>\n" + html, "text/html; charset=utf-8", {"Content-Security-Policy": CSP}
        )
    )


def ago(seconds: float) -> str:
    """
    Return a time in words.

    @param seconds: not negative.
    """
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length:
            return count_of(int(seconds / length), unit)
    return count_of(max(0, int(seconds)), "second")


def _peer(peer_id: bytes) -> Tag:
    return tags.code(short(peer_id), title=peer_id.hex())


def _table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Flattenable]], none: str) -> Tag:
    """
    Return a table that a narrow screen scrolls.  Columns whose names end in C{#} hold numbers.

    @param none: the text if there are no rows.
    """
    made = list(rows)
    if not made:
        return tags.p(none, class_="quiet")
    numeric = [column.endswith("#") for column in columns]
    head = [
        tags.th(column.rstrip("#"), scope="col", class_="number" if is_number else "")
        for column, is_number in zip(columns, numeric, strict=True)
    ]
    body = [
        tags.tr(
            [
                tags.td(cell, class_="number" if is_number else "")
                for cell, is_number in zip(row, numeric, strict=True)
            ]
        )
        for row in made
    ]
    table = tags.table(tags.caption(caption), tags.thead(tags.tr(head)), tags.tbody(body))
    # What scrolls must be reachable with the keyboard.
    return tags.div(table, class_="wide", tabindex="0", role="group", **{"aria-label": caption})


class StatusPage(Element):
    """
    The page.
    """

    def __init__(self, status: TrackerStatus) -> None:
        """
        @param status: the snapshot.
        """
        super().__init__(_template())
        self._status = status

    @renderer
    def script(self, request: IRequest | None, tag: Tag) -> Tag:
        """
        Name the events after which the page is refreshed.
        """
        return tag(**{"data-events": " ".join(event.name for event in EVENTS if event is not Message)})

    @renderer
    def title(self, request: IRequest | None, tag: Tag) -> Tag:
        """
        The title: how many topics have neighbours.
        """
        joined = sum(topic.state == "joined" for topic in self._status.topics)
        return tag(f"dtt: {joined} of {count_of(len(self._status.topics), 'topic')} joined")

    @renderer
    def state(self, request: IRequest | None, tag: Tag) -> Tag:
        """
        One sentence, which screen readers announce when it changes.
        """
        parts = [f"{topic.label}: {_state(topic)}" for topic in self._status.topics]
        return tag("; ".join(parts) or "No topic is joined", ".")

    @renderer
    def topics(self, request: IRequest | None, tag: Tag) -> Tag:
        """
        The topics.
        """
        return tag([self._topic(topic) for topic in self._status.topics])

    @renderer
    def traffic(self, request: IRequest | None, tag: Tag) -> Tag:
        """
        Traffic as lines.
        """
        dht, samples = self._status.dht, self._status.traffic
        key = tags.p(
            tags.span("sent", class_="key-sent"),
            " and ",
            tags.span("received", class_="key-received"),
            class_="quiet",
        )
        return tag(
            tags.figure(
                tags.figcaption(
                    f"DHT datagrams: {dht.sent_rate:.1f} sent and {dht.received_rate:.1f} received a second "
                    "in the last minute"
                ),
                datagram_lines(samples),
            ),
            tags.figure(tags.figcaption("Messages of all topics"), message_lines(samples)),
            key,
        )

    @renderer
    def network(self, request: IRequest | None, tag: Tag) -> Tag:
        """
        The state of our network.
        """
        status, dht = self._status, self._status.dht
        nat = [
            f"{each.family}: {each.kind}"
            + (f", seen at {each.mapped}" if each.mapped else "")
            + f" ({count_of(each.voters, 'network')} {'agrees' if each.voters == 1 else 'agree'})"
            for each in dht.nat
        ]
        mapped = [
            f"{m.protocol} {m.port} has the external address {m.outside} ({m.method})"
            for m in status.mappings
        ]
        addresses = ", ".join(status.addresses) or f"none: {status.unreachable or 'not started'}"
        rows: list[tuple[str, Flattenable]] = [
            ("Peer id", tags.code(status.peer_id.hex())),
            ("Version", status.version),
            ("Running for", ago(status.uptime) if status.started is not None else "not started"),
            (
                "DHT",
                f"{'answers' if dht.ready else 'no node has answered'}; {count_of(dht.nodes, 'node')} known",
            ),
            ("Ports", ", ".join((f"udp:{dht.port}", *status.listen))),
            ("Published addresses", addresses),
            ("A member has reached us", "yes" if status.was_reached else "not yet"),
            ("NAT", "; ".join(nat) or "not known yet"),
            ("Port mappings", "; ".join(mapped) or "none"),
            (
                "Stored for others",
                f"{count_of(dht.stored_items, 'item')}, {count_of(dht.stored_peers, 'peer')}",
            ),
            ("Connections", f"{status.connections} of at most {status.max_connections}"),
        ]
        return tag(tags.dl([[tags.dt(name), tags.dd(value)] for name, value in rows]))

    @renderer
    def events(self, request: IRequest | None, tag: Tag) -> Tag:
        """
        The last events, the latest first.
        """
        labels = {topic.topic_id: topic.label for topic in self._status.topics}
        rows = [
            (
                f"{ago(self._status.time - event.time)} ago",
                "" if event.topic is None else labels.get(event.topic, event.topic.hex()[:10]),
                tags.span(event.text, class_="bad") if event.is_warning else event.text,
            )
            for event in reversed(self._status.events[-SHOWN_EVENTS:])
        ]
        return tag(_table("The latest first", ("When", "Topic", "What"), rows, "Nothing has happened yet."))

    def _topic(self, topic: TopicStatus) -> Tag:
        name = f"topic-{topic.topic_id.hex()[:16]}"
        time = self._status.time
        said: list[Flattenable] = [tags.span(_state(topic), class_=_STATES[topic.state])]
        said.append(f" for {ago(time - topic.since)}. It {topic.doing}." if topic.state != "stopped" else ".")
        parts: list[Flattenable] = [tags.h2(topic.label, id=name), tags.p(said)]
        if topic.reason is not None:
            parts.append(tags.p(f"Why: {topic.reason}."))
        if not topic.has_secret:
            parts.append(
                tags.p(
                    "It has no secret: anyone who knows its name can read, join and send messages.",
                    class_="bad",
                )
            )
        parts.append(
            _table(
                "Neighbours",
                ("Member", "Over", "Address", "Round trip#", "Since#", "Found by"),
                [_neighbor_row(each, time) for each in topic.neighbors],
                "No neighbours.",
            )
        )
        parts.append(
            tags.figure(
                links(topic, self._status.peer_id),
                tags.figcaption(
                    "Lines: our links. Dashed: links according to others' records. "
                    f"{count_of(topic.known_peers, 'other member')} known."
                ),
            )
        )
        parts.append(
            _table(
                "Found, by channel",
                (
                    "Channel",
                    "Found#",
                    "Named#",
                    "Became neighbours#",
                    "Not reached#",
                    "Refused#",
                    "Not needed#",
                ),
                [
                    (
                        find.channel,
                        str(find.found),
                        str(find.named),
                        str(find.joined),
                        str(find.unreachable + find.wrong_key),
                        str(find.refused),
                        str(find.expired),
                    )
                    for find in topic.finds
                ],
                "Nobody has been found yet.",
            )
        )
        parts.append(tags.p(_records(topic.records)))
        parts.append(tags.p(f"Messages: {topic.messages_sent} sent, {topic.messages_received} received."))
        return tags.section(parts, **{"aria-labelledby": name})


def _state(topic: TopicStatus) -> str:
    if topic.state == "joined":
        return f"joined, {count_of(len(topic.neighbors), 'neighbour')}"
    return topic.state


def _neighbor_row(neighbor: NeighborStatus, now: float) -> tuple[Flattenable, ...]:
    trip = neighbor.round_trip
    return (
        _peer(neighbor.peer_id),
        neighbor.transport or "unknown",
        neighbor.address or "unknown",
        "" if trip is None else f"{1000 * trip:.1f} ms",
        ago(now - neighbor.since),
        neighbor.found_by,
    )


def _records(records: RecordsStatus) -> str:
    """
    Return what is known of the records, in words.
    """
    parts = [f"Records: {count_of(records.found, 'other member')} in the last two minutes"]
    if records.unreadable:
        parts.append(f"{records.unreadable} that our secret does not decrypt")
    if refused := sum(records.refused.values()):
        parts.append(f"{refused} refused since the start")
    if records.read_failed:
        parts.append("the last read failed")
    if records.stored_minute is None:
        parts.append("ours is not stored yet")
    else:
        parts.append(f"ours is stored on {count_of(records.stored_copies, 'DHT node')}")
    return "; ".join(parts) + "."
