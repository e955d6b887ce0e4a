"""Properties on random input: the same 200 examples in every test run, thousands of new ones in `make fuzz`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

_SHORT = settings(max_examples=200, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def fuzzed(test: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a Hypothesis test as such a property; stands above `@given`."""
    marked: Callable[..., Any] = pytest.mark.fuzz(
        test if os.environ.get("HYPOTHESIS_PROFILE") == "fuzz" else _SHORT(test)
    )
    return marked
