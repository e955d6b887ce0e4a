"""Ray's errors as ours: what has failed, on which unit, and what to do."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from ray import exceptions as ray_errors
from ray.data.exceptions import SystemException

from reranker_batch.errors import ReplicaError, RerankerBatchError, described
from reranker_batch.job.engine import RESUME
from reranker_batch.printing import listed
from reranker_batch.runtime.tracker import TrackerClient

logger = logging.getLogger(__name__)
_ADVICE = "\nFailed to apply UDF transform"
_CAUSES: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    (
        (ray_errors.OutOfDiskError,),
        "The disk that Ray spills objects to is full. Free space, or point Ray's temporary folder to a larger disk.",
    ),
    (
        (ray_errors.ObjectStoreFullError,),
        "Ray's object store is full. Lower runtime.unit_pairs, or give the nodes a larger object store.",
    ),
    (
        (ray_errors.OutOfMemoryError,),
        "A node ran out of memory and Ray ended its workers. Lower runtime.unit_pairs or the number of replicas, "
        "or use nodes with more memory.",
    ),
    (
        (ray_errors.RuntimeEnvSetupError, ray_errors.ActorUnschedulableError, ray_errors.TaskUnschedulableError),
        "Ray could not start a worker.",
    ),
    (
        (
            ray_errors.RayActorError,
            ray_errors.WorkerCrashedError,
            ray_errors.NodeDiedError,
            ray_errors.ObjectLostError,
            ray_errors.LocalRayletDiedError,
        ),
        "Ray lost processes or nodes more often than work is tried again.",
    ),
)


def explain(error: BaseException, tracker: TrackerClient) -> BaseException:
    """What has ended a run, as an error of ours where it is Ray's, with the units that were under way.

    Raise it where `error` is no longer at hand: its traceback holds on to the replicas and their devices.
    """
    logger.debug("a run has ended early", exc_info=error)
    chain = list(_chain(error))
    ours = [one for one in chain if isinstance(one, RerankerBatchError)]
    if ours:
        # Ray's wrapper passes for the class it wraps and has a remote traceback for a message: the innermost counts.
        return _own_words(ours[-1])
    if any(isinstance(one, KeyboardInterrupt) for one in chain):
        return KeyboardInterrupt()
    if any(isinstance(one, SystemExit) for one in chain):
        return KeyboardInterrupt()
    if (fatal := tracker.fatal_error()) is not None:
        return fatal
    running = tracker.running()
    if any(isinstance(one, ray_errors.RayError | SystemException) for one in chain):
        return _lost(chain, running)
    return error


def _own_words(error: RerankerBatchError) -> RerankerBatchError:
    """Ray Data appends advice on settings of its own to the message of an error that it passes on."""
    error.args = (str(error).partition(_ADVICE)[0],)
    return error


def _lost(chain: list[BaseException], running: list[str]) -> ReplicaError:
    for kinds, message in _CAUSES:
        for one in chain:
            if isinstance(one, kinds):
                return ReplicaError(f"{message} {described(one)}. {_units_shown(running)} {RESUME}")
    return ReplicaError(f"Ray failed. {described(chain[0])}. {_units_shown(running)} {RESUME}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = getattr(error, "cause", None) or error.__cause__


def _units_shown(units: list[str]) -> str:
    if not units:
        return "No unit was being scored."
    return f"Being scored: {listed(units)}."
