"""
The unchanged Rust crate C{distributed-topic-tracker} over a DHT of each kind,
bootstrap included: all that its members know is the names of the public
bootstrap nodes, the topic and the secret.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.interop.stage import PATIENCE, Stage, StageCase


class RustOverDHTTests(StageCase):
    """
    Members by the crate alone.
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
        A swarm of dtt nodes alone carries them: they find each other's records
        and addresses there, join, and talk; a third one comes later.
        """
        return self.play(self._meet, ["dtt"])

    def test_others(self) -> Deferred[None]:
        """
        The control: so do libtorrent sessions and mainline servers.
        """
        return self.play(self._meet, ["libtorrent", "mainline"])
