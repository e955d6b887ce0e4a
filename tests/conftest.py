"""Settings that all tests share."""

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
"""Threads of torch that wait for each other sleep, in every process of the tests; awake, they take the cores away."""
if "PYTEST_XDIST_WORKER" in os.environ:  # its coverage is measured, that of the processes it starts is not
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
settings.register_profile("shared", deadline=None, max_examples=60)
settings.register_profile("fuzz", deadline=None, max_examples=5_000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "shared"))


@pytest.fixture(autouse=True)
def log_levels() -> Iterator[None]:
    """A command that runs in this process sets the levels of its logs; the next test finds them as they were."""
    loggers = (logging.getLogger(), logging.getLogger("reranker_batch"))
    before = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)
