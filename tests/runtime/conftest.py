"""One local Ray for all tests of this folder."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
WORKER_PATH = os.pathsep.join(map(str, (_HERE, _HERE.parent, _HERE.parents[1])))
"""Where Ray's workers, and drivers of their own, find the package and the helpers of these tests."""


@pytest.fixture(scope="session")
def worker_environment() -> None:
    os.environ["PYTHONPATH"] = WORKER_PATH
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


@pytest.fixture(scope="session")
def local_ray(worker_environment: None) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray

        ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield
        ray.shutdown()
