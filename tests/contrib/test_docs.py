"""
Tests that the code in docs/how-to/state.md works.
"""

from __future__ import annotations

import contextlib
import io
import re
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.testing.swarm import VirtualSwarm
from tests.test_docs import page


class DocsTests(SynchronousTestCase):
    """
    The class shown, in a swarm.
    """

    def test_shown(self) -> None:
        """
        All members know where each other member is, also one that comes later; a change
        reaches all.
        """
        (code,) = re.findall(r"```python\n(.*?)```", page("how-to/state.md"), re.DOTALL)
        names: dict[str, Any] = {}
        output = io.StringIO()
        exec(compile(code, "docs/how-to/state.md", "exec"), names)
        with contextlib.redirect_stdout(output), VirtualSwarm(members=3, seed=2) as swarm:
            members: list[Any] = []

            def add(number: int) -> None:
                member = names["Services"](
                    swarm.reactors[number], swarm.trackers[number], swarm.topics[number]
                )
                member.offer(f"host{number}:1")
                members.append(member)

            for number in range(3):
                add(number)
            swarm.advance(30)
            add(swarm.add())
            self.assertTrue(swarm.until(lambda: all(len(member.known()) == 4 for member in members)))
            members[0].offer("elsewhere:2")
            swarm.advance(2)
            for member in members:
                self.assertEqual(member.known()[swarm.trackers[0].peer_id], "elsewhere:2")
            for member in members:
                member._state.close()
        first = swarm.trackers[0].peer_id.hex()[:10]
        self.assertEqual(output.getvalue().count(f"{first} is now at elsewhere:2"), 3)
