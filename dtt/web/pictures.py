"""
The pictures of the status page, as SVG: who is linked to whom, and traffic as lines.

Each has a title and a description in words, for those who don't see it.  Numbers of nodes and
points are bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi, sin
from typing import Final

from twisted.web.template import Tag

from dtt.events import short
from dtt.tracker.status import TopicStatus, TrafficSample
from dtt.tracker.traffic import INTERVAL, MAX_SAMPLES

#: Members in a picture beside ourselves (guess: more can't be told apart on a phone).
MAX_NODES: Final = 16

#: The shortest time that lines show, in intervals: five minutes (guess).
MIN_SPAN: Final = 20

_WIDTH, _HEIGHT, _RADIUS = 480, 300, 105


def _svg(name: str, height: int, title: str, text: str, *children: Tag) -> Tag:
    return Tag(
        "svg",
        attributes={
            "viewBox": f"0 0 {_WIDTH} {height}",
            "width": str(_WIDTH),
            "height": str(height),
            "role": "img",
            "aria-labelledby": f"{name}-title {name}-text",
        },
        children=[
            Tag("title", attributes={"id": f"{name}-title"}, children=[title]),
            Tag("desc", attributes={"id": f"{name}-text"}, children=[text]),
            *children,
        ],
    )


def links_of(topic: TopicStatus, own_id: bytes) -> tuple[list[bytes], set[tuple[bytes, bytes]]]:
    """
    Return the members to show, our neighbours first, and their links according to their records.

    @param own_id: our peer id, 32 bytes.
    @return: at most L{MAX_NODES} peer ids, and pairs of these, the smaller id first.
    """
    neighbors = [each.peer_id for each in topic.neighbors]
    latest = {record.publisher: record.active_peers for record in topic.records.recent}
    named = [*neighbors, *latest, *(peer for peers in latest.values() for peer in peers)]
    nodes = list(dict.fromkeys(peer for peer in named if peer != own_id))[:MAX_NODES]
    shown = set(nodes)
    pairs = {
        (min(publisher, peer), max(publisher, peer))
        for publisher, peers in latest.items()
        for peer in peers
        if publisher in shown and peer in shown and publisher != peer
    }
    return nodes, pairs


def links(topic: TopicStatus, own_id: bytes) -> Tag:
    """
    Draw the known links between members of a topic.

    @param own_id: our peer id, 32 bytes.
    """
    nodes, pairs = links_of(topic, own_id)
    centre = _WIDTH / 2, _HEIGHT / 2
    turn = 2 * pi / max(len(nodes), 1)
    places = {
        peer: (
            round(centre[0] + 1.6 * _RADIUS * cos(turn * number), 1),
            round(centre[1] + _RADIUS * sin(turn * number), 1),
        )
        for number, peer in enumerate(nodes)
    }
    ours = [each.peer_id for each in topic.neighbors if each.peer_id in places]
    drawn = [_curve(places[one], places[other]) for one, other in sorted(pairs)]
    drawn += [_line(centre, places[peer], "picture-link") for peer in ours]
    drawn.append(_node(centre, "us", "picture-node picture-us"))
    drawn += [_node(place, short(peer), "picture-node") for peer, place in places.items()]
    said = [f"We are linked to {', '.join(map(short, ours)) or 'nobody'}."]
    said += [
        f"{short(one)} and {short(other)} are linked, according to one of them."
        for one, other in sorted(pairs)
    ]
    name = f"links-{topic.topic_id.hex()[:16]}"
    return _svg(name, _HEIGHT, f"Links in {topic.label}", " ".join(said), *drawn)


def _line(start: tuple[float, float], end: tuple[float, float], kind: str) -> Tag:
    ends = {"x1": start[0], "y1": start[1], "x2": end[0], "y2": end[1]}
    return Tag("line", attributes={"class": kind, **{name: str(value) for name, value in ends.items()}})


def _curve(start: tuple[float, float], end: tuple[float, float]) -> Tag:
    """
    Draw a link from a record, bent so that it does not hide one of our links.
    """
    (x1, y1), (x2, y2) = start, end
    bend = (x1 + x2) / 2 + (y2 - y1) / 4, (y1 + y2) / 2 - (x2 - x1) / 4
    path = f"M{x1} {y1} Q{bend[0]:.1f} {bend[1]:.1f} {x2} {y2}"
    return Tag("path", attributes={"d": path, "class": "picture-hearsay"})


def _node(place: tuple[float, float], label: str, kind: str) -> Tag:
    x, y = place
    return Tag(
        "g",
        children=[
            Tag("circle", attributes={"cx": str(x), "cy": str(y), "r": "7", "class": kind}),
            Tag(
                "text",
                attributes={"x": str(x), "y": str(y + 20), "text-anchor": "middle", "class": "picture-text"},
                children=[label],
            ),
        ],
    )


def traffic(name: str, title: str, sent: Sequence[int], received: Sequence[int]) -> Tag:
    """
    Draw two lines.

    @param name: the beginning of ids in the page.
    @param title: what is shown.
    @param sent: the number sent in each interval, the latest last.
    @param received: that received, as many.
    """
    height, base, top = 120, 100, 15
    span = min(max(MIN_SPAN, len(sent) - 1), MAX_SAMPLES)
    most = max((*sent, *received, 1))
    rate = most / INTERVAL
    last = (sent[-1] if sent else 0), (received[-1] if received else 0)
    said = (
        f"At most {rate:.1f} a second; in the last {INTERVAL:.0f} seconds {last[0]} sent, {last[1]} received."
    )

    def line(values: Sequence[int], kind: str) -> Tag:
        step, start = _WIDTH / span, _WIDTH * (1 - max(len(values) - 1, 0) / span)
        points = " ".join(
            f"{start + step * number:.0f},{base - (base - top) * value / most:.1f}"
            for number, value in enumerate(values)
        )
        return Tag("polyline", attributes={"points": points, "class": kind})

    def text(x: int, y: int, anchor: str, content: str) -> Tag:
        return Tag(
            "text",
            attributes={"x": str(x), "y": str(y), "text-anchor": anchor, "class": "axis-text"},
            children=[content],
        )

    return _svg(
        name,
        height,
        title,
        said,
        _line((0, base), (_WIDTH, base), "axis"),
        text(0, 11, "start", f"{rate:.1f} a second"),
        text(0, height - 5, "start", f"{span * INTERVAL / 60:.0f} minutes ago"),
        text(_WIDTH, height - 5, "end", "now"),
        line(sent, "line-sent"),
        line(received, "line-received"),
    )


def datagram_lines(samples: Sequence[TrafficSample]) -> Tag:
    """
    Draw the datagrams of the DHT node.
    """
    sent, received = [each.sent for each in samples], [each.received for each in samples]
    return traffic("datagrams", "Datagrams of the DHT node", sent, received)


def message_lines(samples: Sequence[TrafficSample]) -> Tag:
    """
    Draw the messages of all topics.
    """
    sent = [each.messages_sent for each in samples]
    return traffic("messages", "Messages of all topics", sent, [each.messages_received for each in samples])
