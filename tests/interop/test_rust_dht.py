"""
The unmodified Rust crate C{distributed-topic-tracker} over each kind of DHT, including
bootstrap: its members know only the names of the public bootstrap nodes, the topic and
the secret.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.interop.stage import PATIENCE, Stage, StageCase


class RustOverDHTTests(StageCase):
    """
    Only members of the crate.
    """

    async def _meet(self, stage: Stage) -> None:
        first, second = members = [stage.rust("first"), stage.rust("second")]
        await stage.joined(members, 2 * PATIENCE)
        first.say("say", b"of the first")
        second.say("say", b"of the second")
        await stage.hears(second, [b"of the first"])
        await stage.hears(first, [b"of the second"])
        third = stage.rust("third")
        await stage.joined([third], 2 * PATIENCE)
        third.say("say", b"of the third")
        for member in members:
            await stage.hears(member, [b"of the third"])

    def test_dtt(self) -> Deferred[None]:
        """
        A DHT of dtt nodes alone is sufficient: the members find each other's records and
        addresses there, join, and talk; a third one starts later.
        """
        return self.play(self._meet, ["dtt"])

    def test_others(self) -> Deferred[None]:
        """
        For comparison, libtorrent sessions and mainline servers are sufficient, too.
        """
        return self.play(self._meet, ["libtorrent", "mainline"])
