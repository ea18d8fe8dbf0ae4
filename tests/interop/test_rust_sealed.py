"""
dtt members that use the sealed slots, and Rust members, which do not know them, in one
swarm.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.interop.actors import Actor
from tests.interop.stage import BOTH, BUSY, MembersCase, Stage


class SealedTests(MembersCase):
    """
    The sealed slots are on by default.
    """

    async def _mixed(self, stage: Stage) -> None:
        dtt = [stage.python(f"dtt {number}", *BOTH, *BUSY) for number in range(3)]
        rust = [stage.rust(f"rust {number}", *BUSY) for number in range(2)]
        members = [*dtt, *rust]
        await stage.joined(members)
        await stage.one_swarm(members)
        await stage.all_hear(members)
        # Those who had joined before their moment in the sealed slot have not written there.
        assert any("record_slot" in self._channels(member, "record.published") for member in dtt)
        ids = {member.peer_id for member in rust}
        in_sealed = {
            event["publisher"]
            for member in dtt
            for event in member.reported("record.found")
            if event["channel"] == "sealed_slot"
        }
        assert not in_sealed & ids, "a Rust member in a sealed slot"

    async def _newcomer(self, stage: Stage) -> None:
        dtt = [stage.python(f"dtt {number}", *BOTH, *BUSY) for number in range(3)]
        await stage.joined(dtt)
        # By now they find each other in the sealed slot, and use the record slots less.
        await stage.rest(75)
        rust = stage.rust("rust", *BUSY)
        await stage.joined([rust])
        await stage.one_swarm([*dtt, rust])
        await stage.all_hear([*dtt, rust])

    def _channels(self, member: Actor, event: str) -> set[str]:
        return {each["channel"] for each in member.reported(event)}

    def test_mixed(self) -> Deferred[None]:
        """
        Three dtt and two Rust members form one swarm; the latter are only in the record
        slots.
        """
        return self.play(self._mixed)

    def test_newcomer(self) -> Deferred[None]:
        """
        A Rust member joins dtt members that have been together for more than a minute.
        """
        return self.play(self._newcomer)
