"""The entry point of a job on the hash oracle: `python tests/runtime/cluster_driver.py FOLDER [cuda [TIMEOUT]]`."""

from __future__ import annotations

import sys
from pathlib import Path

from fault_jobs import oracle_job

from reranker_batch.cli import guarded
from reranker_batch.runtime.driver import run_job


@guarded
def main(folder: str, device: str = "cpu", start_timeout_s: str = "200") -> int:
    """Without an address: a submitted job runs on the cluster that it was submitted to."""
    runtime = {"max_replicas": 3, "start_timeout_s": float(start_timeout_s)}
    return run_job(oracle_job(Path(folder), model={"device": device}, runtime=runtime)).exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
