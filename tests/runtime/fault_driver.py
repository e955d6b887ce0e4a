"""A driver in a process of its own: runs the job of a folder and ends as the command does."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from fault_jobs import oracle_job

from reranker_batch.cli import guarded
from reranker_batch.runtime.driver import run_job


@guarded
def main(folder: str) -> int:
    return run_job(oracle_job(Path(folder))).exit_code


if __name__ == "__main__":
    logging.basicConfig(level="WARNING")
    sys.exit(main(sys.argv[1]))
