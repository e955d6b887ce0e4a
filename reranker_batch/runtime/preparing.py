"""Prepared input: made by processes of this machine, or by tasks on Ray where the run uses one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from reranker_batch.config import RuntimeConfig
from reranker_batch.core.mapping import Mapper
from reranker_batch.job.cluster import is_ray_in_use, is_ray_named, stays_here
from reranker_batch.job.interrupts import terminate_as_interrupt
from reranker_batch.job.processes import in_this_process, processes
from reranker_batch.job.stage_display import stage_display
from reranker_batch.preparing.stages import OnProgress
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.lock import hold_lock

Made = TypeVar("Made", covariant=True)


class Making(Protocol[Made]):
    """Input that is to be prepared or converted."""

    @property
    def lock(self) -> str:
        """The folder whose lock guards the input."""

    def check_places(self) -> None:
        """Raises ConfigError for a place that cannot be used."""

    def size_bytes(self) -> int:
        """Of all files that are read."""

    def run(self, each: Mapper, on_progress: OnProgress) -> Made:
        """Make it, or finish what was begun."""


WORTH_PROCESSES_BYTES = 16 << 20
"""Of files: what is smaller takes less time than the start of a process."""
WORTH_RAY_BYTES = 4 << 30
"""What is smaller does not start a Ray on this machine."""


def make_ready(preparation: Making[Made], runtime: RuntimeConfig, *, show_progress: bool = False) -> Made:
    """Make the input of a run under the lock of its folder; what is complete is left as it is.

    Raises:
        ConfigError, InputError: A table or a folder cannot be used.
        RerankerBatchError: It failed; the same call goes on from there.
    """
    preparation.check_places()
    with (
        terminate_as_interrupt(),
        hold_lock(Folder.at(preparation.lock)),
        mapper(runtime, preparation.size_bytes()) as each,
        stage_display(is_shown=show_progress) as on_progress,
    ):
        return preparation.run(each, on_progress)


@contextmanager
def mapper(runtime: RuntimeConfig, size_bytes: int) -> Iterator[Mapper]:
    """Where tables of this size are read and written."""
    if size_bytes <= WORTH_PROCESSES_BYTES:
        yield in_this_process
        return
    is_worth_it = size_bytes > WORTH_RAY_BYTES or not stays_here(runtime) or is_ray_in_use()
    if not (is_ray_named(runtime) and is_worth_it):
        with processes() as each:
            yield each
        return
    from reranker_batch.runtime.mapping import tasks_on_ray
    from reranker_batch.runtime.session import ray_session

    with ray_session(runtime.ray_address), terminate_as_interrupt():
        yield tasks_on_ray
