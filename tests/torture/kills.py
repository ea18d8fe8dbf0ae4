"""
Kill members again and again: C{python -m tests.torture.kills [--kills 300] [--members 6]
[--seed N]}.

One random member after another is killed with SIGKILL and started again. Each must be who
it was, with a state that loads; and all must be one swarm 30 s after the last kill.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from tests.torture.swarm import Swarm, until

#: Seconds between two kills, and until the swarm must be whole after the last one.
PAUSE = (0.0, 2.0)
WHOLE = 30.0


def torture(folder: Path, kills: int, members: int, seed: int, whole: float = WHOLE) -> float:
    """
    Kill and restart members.

    @param whole: seconds within which all must be one swarm after the last kill.

    @return: seconds until the swarm was whole.
    @raise AssertionError: a member has lost its identity or its state, or the swarm is not
        whole in time.
    """
    rng = Random(seed)
    swarm = Swarm(folder, rng.randbytes(32).hex().encode())
    try:
        names = [f"member{number}" for number in range(members)]
        for name in names:
            swarm.start(name)
        for name in names:
            swarm.check_identity(name)
        assert until(swarm.is_whole, 90.0), "the members did not meet at first"
        for _ in range(kills):
            name = rng.choice(names)
            if swarm.members[name].lines():  # it has at least begun
                swarm.check_identity(name)
            swarm.members[name].end(signal.SIGKILL)
            swarm.start(name)
            time.sleep(rng.uniform(*PAUSE))
        for name in names:
            swarm.check_identity(name)
        began = time.monotonic()
        assert until(swarm.is_whole, whole), f"not whole {whole:.0f} s after the last kill"
        return time.monotonic() - began
    finally:
        swarm.stop()


def main() -> None:
    """
    Run the command.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.torture.kills")
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--members", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            seconds = torture(Path(folder), options.kills, options.members, options.seed)
        except AssertionError as error:
            sys.exit(f"seed {options.seed}: {error}")
    print(f"{options.kills} kills of {options.members} members: whole after {seconds:.1f} s")


if __name__ == "__main__":
    main()
