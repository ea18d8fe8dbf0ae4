"""
A custom rotation: it derives the key of each minute from the secret of the topic.

dtt's rotation hashes the secret with the minute. Anyone who learns the secret later can read all records that
were ever stored. This rotation uses a key for each day, and the program forgets the secret: an attacker who
seizes the machine gets today's key, but no earlier one. In exchange, each member needs the key of the day on
which it starts.

All members must use the same rotation. Rust peers need the same one (C{SecretRotation} of the
crate distributed-topic-tracker).
"""

from __future__ import annotations

from hashlib import sha256
from hmac import digest

#: Minutes of a day.
DAY = 24 * 60


def next_day(key: bytes) -> bytes:
    """
    Return the key of the next day, from which this key can't be computed.
    """
    return digest(key, b"next day", sha256)


class DailyRotation:
    """
    Derives the keys of minutes from a key that changes every day (UTC), and forgets the days
    before yesterday.
    """

    def __init__(self, key: bytes, day: int) -> None:
        """
        @param key: the key of a day, 32 bytes.
        @param day: the number of the day: the unix time divided by 86400.
        """
        self._keys = {day: key}

    def __call__(self, topic_id: bytes, minute: int, secret_hash: bytes) -> bytes:
        """
        Return the seed of the key of a minute, 32 bytes.

        Minutes of a day that was forgotten, or of one in the far future, get a seed that nobody else has:
        such records can't be read, which is not an error.
        """
        day = minute // DAY
        newest = max(self._keys)
        while newest < day <= newest + 400:
            self._keys[newest + 1] = next_day(self._keys[newest])
            newest += 1
        for old in [each for each in self._keys if each < newest - 1]:
            del self._keys[old]
        key = self._keys.get(day, self._keys[newest])
        return digest(key, topic_id + minute.to_bytes(8, "big") + secret_hash, sha256)


# tracker.join("garden party", secret, rotation=DailyRotation(key, day))
