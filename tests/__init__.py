"""
Settings for all tests: property tests are the same in each run, and a busy machine fails
none of them.
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
