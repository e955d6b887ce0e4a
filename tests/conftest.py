"""Settings that all tests share."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("shared", deadline=None, max_examples=60)
settings.register_profile("fuzz", deadline=None, max_examples=5_000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "shared"))
