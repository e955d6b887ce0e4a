"""One local Ray for all tests of this folder."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator

import pytest
from worker_path import WORKER_PATH


@pytest.fixture(scope="session")
def worker_environment() -> None:
    os.environ["PYTHONPATH"] = WORKER_PATH
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


@pytest.fixture(scope="session")
def local_ray(worker_environment: None) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray

        ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        yield
        ray.shutdown()
