"""
The values that the nodes near a slot store.
"""

from __future__ import annotations

from collections.abc import Container

from dtt.errors import RecordRefused
from dtt.krpc.bencode import decode
from dtt.records.record import open_record
from dtt.records.topic import TopicKeys
from dtt.testing.storage.dht import StorageDHT


def contested(
    dht: StorageDHT, keys: TopicKeys, minute: int, members: Container[bytes]
) -> dict[int, tuple[int, int]]:
    """
    For the public slots of a minute and the one before: how many nodes store a value that is not a member's
    record, and how many store any value, by minute.

    @param members: the members' peer ids.
    """
    found = {}
    for each in (minute - 1, minute):
        slot = keys.slot(each)
        key = keys.encryption_key(slot)
        values = [value for _, value in dht.holders(slot.target)]
        good: dict[bytes, bool] = {}
        for value in set(values):
            try:
                good[value] = open_record(decode(value), slot, key).publisher in members
            except RecordRefused:
                good[value] = False
        found[each] = sum(not good[value] for value in values), len(values)
    return found
