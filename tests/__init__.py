"""
Settings of all tests: property tests are deterministic, and don't fail on a busy machine.
"""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "dtt",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("dtt")
