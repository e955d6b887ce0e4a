"""Properties on random input: the same few examples in every test run, thousands of new ones in `make fuzz`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

Test = Callable[..., Any]
EXAMPLES, FUZZ_EXAMPLES = 200, 5_000


def fuzzed(test: Test) -> Test:
    """Mark a Hypothesis test as such a property; stands above `@given`."""
    return fuzzed_by(EXAMPLES, FUZZ_EXAMPLES)(test)


def fuzzed_by(examples: int, fuzz_examples: int) -> Callable[[Test], Test]:
    """The same with numbers of its own, for a property whose examples take long."""
    is_fuzz = os.environ.get("HYPOTHESIS_PROFILE") == "fuzz"
    count = fuzz_examples if is_fuzz else examples
    limits = settings(max_examples=count, derandomize=not is_fuzz, suppress_health_check=[HealthCheck.too_slow])

    def mark(test: Test) -> Test:
        marked: Test = pytest.mark.fuzz(limits(test))
        return marked

    return mark
