"""A run and the proof of its output, on Ray or without it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from reranker_batch.config import JobConfig
from reranker_batch.errors import ConfigError
from reranker_batch.job.child import Standby, standby
from reranker_batch.job.cluster import SUBMITTED, is_ray_in_use, is_ray_named

if TYPE_CHECKING:
    from reranker_batch.config.prepare_job import PrepareJob
    from reranker_batch.core.report import RunReport
    from reranker_batch.job.engine import OpenEngine
    from reranker_batch.job.job import Job
    from reranker_batch.labels.status import LabelsStatus
    from reranker_batch.labels.verifying import LabelsVerification
    from reranker_batch.preparing.record import PreparedRecord
    from reranker_batch.storage.output.status import OutputStatus
    from reranker_batch.storage.output.verifying import Verification

# The rest is imported where it is used: the child for the model starts before, and imports meanwhile.

_WORTH_RAY_S = 60.0
"""Work of one replica for which it does not matter that Ray takes some twenty seconds to start and stop."""


def run(config: JobConfig, *, show_progress: bool = False) -> RunReport:
    """Run a job, or finish one that was interrupted; an output that is complete is left as it is.

    Raises:
        ConfigError, InputError, ModelError: Found before anything was started or written.
        RerankerBatchError: The run failed; `run/report.json` says how far it came.
        KeyboardInterrupt: Stopped by Ctrl-C or SIGTERM; the same call goes on from there.
    """
    with standby(is_wanted=not is_ray_named(config.runtime)) as child:
        from reranker_batch.job.job import open_job, open_model
        from reranker_batch.preparing.ready import look_at_input, making_of

        opened = open_model(config)  # what a run would refuse is refused before a long preparation
        look = look_at_input(config)
        if (making := making_of(config, look)) is not None:
            from reranker_batch.runtime.preparing import make_ready

            make_ready(making, config.runtime, show_progress=show_progress)
        return run_job(open_job(config, opened=opened, look=look), show_progress=show_progress, child=child)


def prepare(config: JobConfig | PrepareJob, *, show_progress: bool = False) -> PreparedRecord:
    """Join a run with its queries and its corpus, as `prepare` in the config says, or finish what was begun.

    `run` does this itself; several runs can also share what is prepared once, by one `prepare.output`.

    Raises:
        ConfigError, InputError: Nothing is to be prepared, or a table or a folder cannot be used.
        RerankerBatchError: It failed; the same call goes on from there.
        KeyboardInterrupt: Stopped by Ctrl-C or SIGTERM; the same call goes on from there.
    """
    from reranker_batch.preparing.preparation import Preparation
    from reranker_batch.runtime.preparing import make_ready

    preparation = Preparation.of(config)
    if preparation is None:
        raise ConfigError("Nothing is to be prepared: set prepare.run.")
    return make_ready(preparation, config.runtime, show_progress=show_progress)


def status(output: str) -> OutputStatus | LabelsStatus:
    """Say whether an output, or labels, may be served, and if not, why.

    Raises:
        ConfigError: The place cannot be used.
        CommitError: A record cannot be read, or the records contradict each other.
    """
    from reranker_batch.labels.record import is_labels
    from reranker_batch.labels.status import labels_status
    from reranker_batch.storage.files.filesystem import Folder
    from reranker_batch.storage.output.status import output_status

    return labels_status(output) if is_labels(Folder.at(output)) else output_status(output)


def verify(output: str, *, ray_address: str | None = None) -> Verification | LabelsVerification:
    """Prove a finished output, or complete labels, from its own record.

    Parts are read by threads of this process; with `ray_address` (as `runtime.ray_address`), inside a job that was
    submitted to a cluster and where this process uses Ray already, by tasks on all nodes.

    Raises:
        ConfigError: There is no output of a run and no labels at this place, or no cluster at the address.
        CommitError: A record of the run cannot be read.
        ReplicaError: Ray has lost nodes or processes too often.
    """
    proof = _proof_of(output)
    if ray_address is None and SUBMITTED not in os.environ and not is_ray_in_use():
        return proof(output)
    from reranker_batch.runtime.mapping import on_ray
    from reranker_batch.runtime.session import ray_session

    with ray_session(ray_address):
        return proof(output, each=on_ray)


def _proof_of(output: str) -> Callable[..., Verification | LabelsVerification]:
    """How the folder at a place is proved."""
    from reranker_batch.labels.record import is_labels
    from reranker_batch.storage.files.filesystem import Folder

    if is_labels(Folder.at(output)):
        from reranker_batch.labels.verifying import verify_labels

        return verify_labels
    from reranker_batch.storage.output.verifying import verify_output

    return verify_output


def run_job(job: Job, *, show_progress: bool = False, child: Standby | None = None) -> RunReport:
    """Run a job whose config, model files and input have been checked; raises what `run` raises."""
    from reranker_batch.job.run import run_job as run_loop

    return run_loop(job, engine_for(job, child), show_progress=show_progress)


def engine_for(job: Job, child: Standby | None = None) -> OpenEngine:
    """As `runtime.engine` says; a run that was begun goes on with the engine that its manifest names."""
    from reranker_batch.job.serial import local_engine
    from reranker_batch.storage.files.filesystem import Folder
    from reranker_batch.storage.output.run_state import MANIFEST, RunState

    engine = job.config.runtime.engine
    if engine == "auto":
        manifest = RunState(Folder.at(job.config.output.path)).read(MANIFEST) or {}
        engine = manifest.get("engine") or ("ray" if _is_for_ray(job) else "local")
    if engine == "local":
        return local_engine if child is None else partial(local_engine, standby=child)
    if child is not None:
        child.close()
    from reranker_batch.runtime.engine import ray_engine  # takes a second, and a hundred megabytes

    return ray_engine


def _is_for_ray(job: Job) -> bool:
    """Whether Ray is named, or the work is worth its start."""
    from reranker_batch.job.work import expected_work_s

    return is_ray_named(job.config.runtime) or expected_work_s(job) > _WORTH_RAY_S
