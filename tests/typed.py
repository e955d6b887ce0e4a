"""The command `run` as it is typed, with the model in this process."""

from __future__ import annotations

from typer.main import get_command

from reranker_batch import JobConfig, RunReport
from reranker_batch.cli import app
from reranker_batch.job.job import open_job
from reranker_batch.job.processes import in_this_process
from reranker_batch.job.run import run_job
from reranker_batch.job.serial import inline_engine
from reranker_batch.preparing.ready import look_at_input, make_ready


def run_here(*arguments: str) -> RunReport:
    """`reranker-batch run` with these arguments; no child has to import the libraries of a model first."""
    command = get_command(app).commands["run"]  # type: ignore[attr-defined]  # a group
    with command.make_context("run", list(arguments)) as context:
        return run_config(JobConfig.load(context.params["config"], overrides=context.params["overrides"]))


def run_config(config: JobConfig) -> RunReport:
    """A whole job: its input is made ready, then it is run."""
    look = look_at_input(config)
    make_ready(config, in_this_process)
    return run_job(open_job(config, look=look), inline_engine)
