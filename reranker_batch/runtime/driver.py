"""Runs on Ray."""

from __future__ import annotations

from reranker_batch.config import JobConfig
from reranker_batch.core.report import RunReport
from reranker_batch.job import run as loop
from reranker_batch.job.job import Job, open_job
from reranker_batch.runtime.engine import ray_engine


def run(config: JobConfig, *, show_progress: bool = False) -> RunReport:
    """Run a job, or finish one that was interrupted; an output that is complete is left as it is.

    Raises:
        ConfigError, InputError, ModelError: Found before anything was started or written.
        RerankerBatchError: The run failed; `run/report.json` says how far it came.
        KeyboardInterrupt: Stopped by Ctrl-C or SIGTERM; the same call goes on from there.
    """
    return run_job(open_job(config), show_progress=show_progress)


def run_job(job: Job, *, show_progress: bool = False) -> RunReport:
    """Run a job whose config, model files and input have been checked; raises what `run` raises."""
    return loop.run_job(job, ray_engine, show_progress=show_progress)
