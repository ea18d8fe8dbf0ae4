"""
Settings of all tests: property tests are deterministic, try few inputs, and don't fail
on a busy machine.  With C{DTT_EXPLORE} in the environment they try other inputs each
time, and many more of them; a failure prints how to repeat it.

Garbage is collected less often than by default: simulations allocate much and keep
much, and would spend a sixth of their time on traversing what they keep.

C{os.fsync} does nothing, except in tests with real peers: no test cuts the power, and a
thousand calls would wait seconds for the disk.
"""

import gc
import os

from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

settings.register_profile(
    "dtt",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "explore", settings.get_profile("dtt"), derandomize=False, max_examples=1000, print_blob=True
)
if not os.environ.get("DTT_EXPLORE") and hasattr(providers, "_get_local_constants"):
    # Otherwise Hypothesis also tries the constants of all modules that happen to be loaded.
    providers._get_local_constants = lambda: providers._local_constants
settings.load_profile("explore" if os.environ.get("DTT_EXPLORE") else "dtt")

gc.set_threshold(50_000)


def _no_fsync(fd: object) -> None:
    pass


if not os.environ.get("DTT_INTEROP"):
    os.fsync = _no_fsync
