"""
Kill a process again and again while it writes its state.

C{python -m tests.interop.torture DIRECTORY KILLS SEED} forks writers that replace one
file without pause, kills each with SIGKILL after a random time, and reads the file: it
must contain one complete write, no older than the last one finished before the previous
kill. It prints the number of writes seen, or the error with exit code 1.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from random import Random

from dtt.state import StateDirectory

NAME = "node.json"


def write_forever(path: str, number: int) -> None:
    """
    The writer: lock, then write increasing numbers with some padding.
    """
    state = StateDirectory(path)
    state.lock()
    while True:
        number += 1
        state.write_json(NAME, {"number": number, "weight": [number] * 2000})


def torture(path: str, kills: int, seed: int) -> int:
    """
    Run and kill writers.

    @return: the last number seen.
    @raise AssertionError: a write was torn, or lost.
    """
    rng = Random(seed)
    state = StateDirectory(path)
    state.write_json(NAME, {"number": 0, "weight": [0] * 2000})
    last = 0
    for _ in range(kills):
        writer = os.fork()
        if not writer:
            try:
                write_forever(path, last)
            finally:
                os._exit(1)
        time.sleep(rng.uniform(0, 0.03))
        os.kill(writer, signal.SIGKILL)
        _, status = os.waitpid(writer, 0)
        assert os.WIFSIGNALED(status), f"a writer ended by itself: {status}"
        value = state.read_json(NAME)
        assert value is not None, f"the state is gone or damaged after {last}"
        assert value["weight"] == [value["number"]] * 2000, "a write was torn"
        assert value["number"] >= last, f"{value['number']} after {last}"
        last = value["number"]
    state.lock()
    files = sorted(os.listdir(path))
    assert files == ["lock", NAME], f"killed writers have left something: {files}"
    return last


if __name__ == "__main__":
    directory, kills, seed = sys.argv[1:]
    print(torture(directory, int(kills), int(seed)))
