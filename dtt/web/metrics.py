"""
The snapshot as metrics for Prometheus.

Names follow its conventions (https://prometheus.io/docs/practices/naming/): base units,
C{_total} for what only grows, C{_info} for texts.  Topics are labelled with the first 16 digits
of their ids; C{dtt_topic_info} has their names.

Nothing is kept between two scrapes, and C{prometheus_client} is imported with the first one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from attrs import fields

from dtt.tracker.status import FindStatus, TopicStatus, TrackerStatus

#: The digits of a topic id in a label.
TOPIC_DIGITS: Final = 16

#: States of a topic, for C{dtt_topic_state}.
STATES: Final = ("stopped", "waiting", "searching", "joined")

#: What is counted of each channel, for C{dtt_topic_finds}.
FINDS: Final = tuple(each.name for each in fields(FindStatus) if each.name != "channel")


def exposition(status: TrackerStatus, accept: str = "") -> tuple[bytes, str]:
    """
    Return a snapshot in a text format of Prometheus.

    @param status: the snapshot.
    @param accept: the header C{Accept} of the request, which chooses the format.
    @return: the text, and its media type.
    """
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import choose_encoder

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(status))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Collector:
    """
    A collector of C{prometheus_client}.
    """

    def __init__(self, status: TrackerStatus) -> None:
        self._status = status

    def collect(self) -> Iterator[Any]:
        """
        Yield the metrics.
        """
        yield from _tracker(self._status)
        yield from _dht(self._status)
        yield from _topics(self._status.topics)


def _gauge(name: str, text: str, *samples: tuple[Sequence[str], float], labels: Sequence[str] = ()) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(name, text, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _counter(name: str, text: str, *samples: tuple[Sequence[str], float], labels: Sequence[str] = ()) -> Any:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(name, text, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _info(name: str, text: str, *samples: dict[str, str]) -> Any:
    from prometheus_client.core import InfoMetricFamily

    family = InfoMetricFamily(name, text)
    for sample in samples:
        family.add_metric((), sample)
    return family


def _tracker(status: TrackerStatus) -> Iterator[Any]:
    yield _info("dtt_build", "The version.", {"version": status.version, "peer_id": status.peer_id.hex()})
    if status.started is not None:
        yield _gauge("dtt_start_time_seconds", "When the tracker was started.", ((), status.started))
    yield _gauge("dtt_running", "Whether the tracker runs.", ((), status.state == "running"))
    yield _gauge("dtt_connections", "Connections that serve members.", ((), status.connections))
    yield _gauge("dtt_connections_limit", "How many these may be.", ((), status.max_connections))
    yield _gauge("dtt_addresses", "Addresses that members learn.", ((), len(status.addresses)))
    yield _gauge("dtt_was_reached", "Whether a member has ever connected to us.", ((), status.was_reached))
    yield _gauge("dtt_port_mappings", "Ports mapped at the router.", ((), len(status.mappings)))
    yield _counter(
        "dtt_events",
        "What the parts beside the DHT have counted, by part and reason.",
        *(
            ((part, event), count)
            for part, counters in status.counters.items()
            for event, count in sorted(counters.items())
        ),
        labels=("part", "event"),
    )


def _dht(status: TrackerStatus) -> Iterator[Any]:
    dht = status.dht
    yield _gauge("dtt_dht_ready", "Whether any DHT node has answered.", ((), dht.ready))
    yield _gauge("dtt_dht_nodes", "DHT nodes known.", ((), dht.nodes))
    yield _gauge("dtt_dht_stored_items", "Items stored for others.", ((), dht.stored_items))
    yield _gauge("dtt_dht_stored_peers", "Announced peers stored for others.", ((), dht.stored_peers))
    if dht.round_trip is not None:
        yield _gauge("dtt_dht_round_trip_seconds", "Smoothed round trip.", ((), dht.round_trip))
    if dht.nat:
        yield _gauge(
            "dtt_nat",
            "The NAT in front of the UDP socket: 1 for its kind.",
            *(((each.family, each.kind), 1) for each in dht.nat),
            labels=("family", "kind"),
        )
    counted: list[tuple[Sequence[str], float]] = []
    for name, count in sorted(dht.counters.items()):
        family, _, event = name.partition("_")
        # The rest are gauges.
        if family in ("ipv4", "ipv6") and isinstance(count, int) and not event.startswith(_GAUGES):
            counted.append(((family, event), count))
    yield _counter(
        "dtt_dht_events",
        "What the DHT node has counted: queries, answers, drops.",
        *counted,
        labels=("family", "event"),
    )


#: Numbers among the counters of the DHT that also shrink (L{dtt.dht.statistics}).
_GAUGES: Final = ("nodes_", "transactions", "soft_timeout", "round_trip")


def _topics(topics: Sequence[TopicStatus]) -> Iterator[Any]:
    by_label = {topic.topic_id.hex()[:TOPIC_DIGITS]: topic for topic in topics}
    one = ("topic",)

    def each(value: Any) -> list[tuple[Sequence[str], float]]:
        return [((label,), value(topic)) for label, topic in by_label.items()]

    yield _info(
        "dtt_topic",
        "The name of each topic.",
        *({"topic": label, "name": topic.label} for label, topic in by_label.items()),
    )
    yield _gauge(
        "dtt_topic_state",
        "1 for the state in which each topic is.",
        *(((label, state), topic.state == state) for label, topic in by_label.items() for state in STATES),
        labels=("topic", "state"),
    )
    yield _gauge(
        "dtt_topic_state_since_seconds",
        "The unix time since which it has had a neighbour, or none.",
        *each(lambda t: t.since),
        labels=one,
    )
    yield _gauge("dtt_topic_neighbors", "Neighbours.", *each(lambda t: len(t.neighbors)), labels=one)
    yield _gauge("dtt_topic_known_peers", "Other members known.", *each(lambda t: t.known_peers), labels=one)
    yield _gauge(
        "dtt_topic_records_found",
        "Members with a record in the last two minutes.",
        *each(lambda t: t.records.found),
        labels=one,
    )
    yield _gauge(
        "dtt_topic_records_unreadable",
        "Records in the last two minutes that our secret does not decrypt.",
        *each(lambda t: t.records.unreadable),
        labels=one,
    )
    yield _gauge(
        "dtt_topic_record_copies",
        "DHT nodes that store our last record.",
        *each(lambda t: t.records.stored_copies),
        labels=one,
    )
    yield _counter(
        "dtt_topic_messages_received", "Messages received.", *each(lambda t: t.messages_received), labels=one
    )
    yield _counter(
        "dtt_topic_messages_sent", "Messages broadcast.", *each(lambda t: t.messages_sent), labels=one
    )
    yield _counter(
        "dtt_topic_records_refused",
        "Values in slots that were no valid record.",
        *(
            ((label, reason), count)
            for label, topic in by_label.items()
            for reason, count in sorted(topic.records.refused.items())
        ),
        labels=("topic", "reason"),
    )
    yield _counter(
        "dtt_topic_finds",
        "Members found, by channel and outcome.",
        *(
            ((label, find.channel, outcome), getattr(find, outcome))
            for label, topic in by_label.items()
            for find in topic.finds
            for outcome in FINDS
        ),
        labels=("topic", "channel", "outcome"),
    )
    yield _counter(
        "dtt_topic_events",
        "Messages dropped or perhaps lost, by reason.",
        *(
            ((label, event), count)
            for label, topic in by_label.items()
            for event, count in sorted(topic.counters.items())
        ),
        labels=("topic", "event"),
    )
