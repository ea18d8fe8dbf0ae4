"""
Sampling the info hashes that nodes have peers for (BEP51).

Rules: the nodes near a target are looked up by C{find_node}, which all nodes support,
and then queried once each. A node is not queried again before the interval that it
announced has passed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dtt.dht.client.lookup import Ask
from dtt.errors import QueryRefused, QueryTimeout
from dtt.interfaces import Contact, InfohashSample
from dtt.krpc.messages import Response
from dtt.net.bounded import make_room

#: The longest interval, seconds (BEP51).
MAX_INTERVAL: Final = 21600

#: The most info hashes taken from one response: what fits into an MTU.
MAX_SAMPLES: Final = 70

#: The most nodes whose interval is remembered. Guess.
MAX_REMEMBERED: Final = 4096

_SIZE: Final = 20


def sample_in(contact: Contact, response: Response) -> InfohashSample | None:
    """
    Interpret a response to C{sample_infohashes}; return C{None} if it is not a valid
    one.
    """
    values = response.values
    samples, total, interval = values.get(b"samples"), values.get(b"num"), values.get(b"interval")
    if type(samples) is not bytes or len(samples) % _SIZE:
        return None
    hashes = tuple(samples[start : start + _SIZE] for start in range(0, len(samples), _SIZE))[:MAX_SAMPLES]
    if type(total) is not int or total < len(hashes):
        total = len(hashes)
    if type(interval) is not int or interval < 0:
        interval = 0
    return InfohashSample(contact, hashes, total, float(min(interval, MAX_INTERVAL)))


class Sampler:
    """
    Queries nodes for samples, respecting their intervals.
    """

    def __init__(self, ask: Ask, seconds: Callable[[], float]) -> None:
        """
        @param ask: sends a query.
        @param seconds: returns the current time, seconds.
        """
        self._ask = ask
        self._seconds = seconds
        # When each address may be queried again, least recently queried first.
        self._not_before: OrderedDict[tuple[str, int], float] = OrderedDict()

    def sample(
        self, contacts: list[Contact], on_sample: Callable[[InfohashSample], None]
    ) -> Deferred[tuple[InfohashSample, ...]]:
        """
        Query those of C{contacts} that may be queried now, concurrently.

        @param on_sample: called with each answer as it arrives.
        @return: fires with the answers in the order of C{contacts} when each node has
            answered or is slow. Cancelling it cancels all queries.
        """
        now = self._seconds()
        found: dict[Contact, InfohashSample] = {}
        waiting = {c for c in contacts if self._not_before.get((c.host, c.port), 0.0) <= now}
        queries: list[Deferred[Response]] = []

        def cancel(_: object) -> None:
            for query in queries:
                query.cancel()

        done: Deferred[tuple[InfohashSample, ...]] = Deferred(cancel)

        def over(contact: Contact) -> None:
            waiting.discard(contact)
            if not waiting and not done.called:
                done.callback(tuple(found[each] for each in contacts if each in found))

        def answered(response: Response, contact: Contact) -> None:
            sample = sample_in(contact, response)
            if sample is not None:
                self._remember(contact, sample.interval)
                if not done.called:
                    found[contact] = sample
                    on_sample(sample)
            over(contact)

        def failed(failure: Failure, contact: Contact) -> None:
            if not done.called and not isinstance(failure.value, QueryRefused | QueryTimeout):
                done.errback(failure)
            over(contact)

        for contact in [each for each in contacts if each in waiting]:
            arguments: dict[bytes, Any] = {b"target": contact.node_id}
            query = self._ask(contact, b"sample_infohashes", arguments, partial(over, contact))
            queries.append(query)
            query.addCallbacks(answered, failed, callbackArgs=(contact,), errbackArgs=(contact,))
        if not done.called and not waiting:
            done.callback(tuple(found[each] for each in contacts if each in found))
        return done

    def _remember(self, contact: Contact, interval: float) -> None:
        now = self._seconds()
        self._not_before.pop((contact.host, contact.port), None)
        make_room(self._not_before, now, MAX_REMEMBERED)
        self._not_before[contact.host, contact.port] = now + interval
