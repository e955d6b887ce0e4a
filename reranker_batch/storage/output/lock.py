"""One run at a time on an output: a lock in its `run/` folder, with an owner and a heartbeat.

The holder of an output is a file `run/lock.N`, made by a create-if-absent write. obstore does that in one step on
local folders (a hard link), S3, GCS and Azure (a conditional request); pyarrow has no such write, and fsspec needs a
driver for each store. A dead holder is succeeded and not overwritten: the next run creates `run/lock.N+1`, so that of
several runs that find the same dead holder one wins. Its files are removed when a run ends.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from reranker_batch.errors import CommitError, LockedError, RerankerBatchError
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.crash_points import reached
from reranker_batch.storage.output.lock_files import HeldLock, LockFiles, Owner

logger = logging.getLogger(__name__)

HEARTBEAT_S = 10.0
_BEATS_TO_DEATH = 6
_ATTEMPTS = 10
_LONGEST_WITHDRAWAL_S = 0.3


@dataclass(frozen=True)
class LockTicket:
    """What a process that works for a run asks before it publishes. Small and picklable."""

    output: Folder
    number: int
    run_id: str

    def confirm(self) -> None:
        """Ask the store whether the run still holds the output.

        Raises:
            CommitError: It does not: another run took over, or the lock was removed.
        """
        locks = {lock.number: lock for lock in LockFiles.of(self.output).all()}
        successor = next((lock for lock in locks.values() if lock.owner and lock.owner.took_over == self.run_id), None)
        if successor is not None and successor.owner is not None:
            raise CommitError(
                f"This run has lost {self.output.uri} to {successor.owner}, which took it for dead. It stops here, "
                "so that the two do not mix."
            )
        own = locks.get(self.number)
        if own is None or (own.owner is not None and own.owner.run_id != self.run_id):
            raise CommitError(f"The lock of this run in {self.output.child('run')} is gone, so it stops here.")


class Lock:
    """A held lock. A thread renews it until `release`."""

    def __init__(self, files: LockFiles, ticket: LockTicket, owner: Owner, heartbeat_s: float) -> None:
        self.ticket = ticket
        self._files, self._owner, self._heartbeat_s = files, owner, heartbeat_s
        self._lost: RerankerBatchError | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_ended, name="lock-heartbeat", daemon=True)
        self._thread.start()

    def confirm(self) -> None:
        """As `LockTicket.confirm`; once lost, a lock stays lost."""
        if self._lost is None:
            try:
                self.ticket.confirm()
            except CommitError as error:
                if error.__cause__ is not None:  # the store did not answer
                    raise
                self._lost = error
        if self._lost is not None:
            raise self._lost

    @property
    def is_lost(self) -> bool:
        """What the heartbeat has seen, without asking the store."""
        return self._lost is not None

    def release(self) -> None:
        """Let the next run in. A lock that has become another run's is not touched."""
        self._ended.set()
        self._thread.join()
        lock = self._files.read(self.ticket.number)
        if lock is not None and lock.owner is not None and lock.owner.run_id == self.ticket.run_id:
            self._files.remove(self.ticket.number)
        self._files.remove_empty_folders()
        reached("lock_released")

    def _renew_until_ended(self) -> None:
        while not self._ended.wait(self._heartbeat_s) and not self.is_lost:
            try:
                self._renew()
            except RerankerBatchError as error:
                logger.warning("The lock of this run could not be renewed: %s", error)

    def _renew(self) -> None:
        asked = _uptime_s()
        self.confirm()
        self._owner = replace(self._owner, beat=self._owner.beat + 1)
        self._files.write(self.ticket.number, self._owner)
        if _uptime_s() - asked > _BEATS_TO_DEATH * self._heartbeat_s:
            # Stopped between the question and the write for so long that another run may have come and gone.
            self._files.remove(self.ticket.number)
            self._lost = CommitError("This run stood still for so long that its lock does not hold any more.")


@contextmanager
def hold_lock(output: Folder, *, heartbeat_s: float = HEARTBEAT_S) -> Iterator[Lock]:
    """Be the only run on an output for the length of a `with` block.

    Raises:
        LockedError: Another run holds it; the message names its host, process and start.
        ConfigError: The output is on a store that has no create-if-absent write, or in a folder that is read-only.
        CommitError: The lock cannot be written.
    """
    lock = take_lock(output, heartbeat_s=heartbeat_s)
    try:
        yield lock
    finally:
        lock.release()


def take_lock(output: Folder, *, heartbeat_s: float = HEARTBEAT_S) -> Lock:
    """Take the lock, or a dead owner's. See `hold_lock`."""
    output.refuse_unwritable()
    files = LockFiles.of(output)
    for _ in range(_ATTEMPTS):
        before = files.newest()
        if before is not None and not _is_dead(before, files, heartbeat_s):
            raise LockedError(_refusal(output, before, heartbeat_s))
        owner = Owner.this_process(uuid.uuid4().hex, took_over=before.owner.run_id if before and before.owner else None)
        number = before.number + 1 if before else 1
        if not files.create(number, owner):
            continue
        if _has_rival(files, number, before, heartbeat_s):
            files.remove(number)
            time.sleep(random.uniform(0, _LONGEST_WITHDRAWAL_S))
            continue
        if before is not None:
            logger.warning("The lock of %s is dead and was taken over from %s.", output.uri, before)
            files.remove_up_to(before.number)
        reached("lock_taken")
        return Lock(files, LockTicket(output, number, owner.run_id), owner, heartbeat_s)
    raise LockedError(f"{output.uri} is being taken by several runs at once. Start one of them again.")


def _has_rival(files: LockFiles, number: int, before: HeldLock | None, heartbeat_s: float) -> bool:
    """Whether a living run has a lock that was not there when this run looked first.

    Names of released locks come back, so a slow run may have judged a lock that is long gone.
    """
    known = before.owner.run_id if before is not None and before.owner is not None else None
    others = [lock for lock in files.all() if lock.number != number]
    strangers = [lock for lock in others if lock.owner is None or lock.owner.run_id != known]
    return any(not _is_dead(lock, files, heartbeat_s) for lock in strangers)


def _is_dead(lock: HeldLock, files: LockFiles, heartbeat_s: float) -> bool:
    """On this machine the process tells. Elsewhere it is the heartbeat: clocks only say whether to watch it.

    A lock is dead when it stood still for as long as its owner may be silent. A time in the future is of a clock that
    differs, so that it says nothing.
    """
    is_running = lock.owner.is_running if lock.owner is not None else None
    if is_running is not None:
        return not is_running
    longest_silence_s = _BEATS_TO_DEATH * heartbeat_s
    if -longest_silence_s < lock.age_s < longest_silence_s:
        return False
    logger.warning("Watching the lock of %s for %.0f s: %s.", files.uri, longest_silence_s, lock)
    for _ in range(_BEATS_TO_DEATH + 1):
        time.sleep(heartbeat_s)
        if not lock.is_same(files.read(lock.number)):
            return False
    return True


def _uptime_s() -> float:
    """Goes on while the machine sleeps, unlike the monotonic clock of Linux, and does not follow the time of day."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


def _refusal(output: Folder, lock: HeldLock, heartbeat_s: float) -> str:
    return (
        f"Another run is at work on output.path={output.uri}: {lock}. Wait for it, stop it, or use another "
        f"output.path. If its machine is gone, wait {_BEATS_TO_DEATH * heartbeat_s:.0f} s: the same command then "
        "watches its lock for as long and takes over."
    )


def living_lock(output: Folder, *, heartbeat_s: float = HEARTBEAT_S) -> HeldLock | None:
    """The lock of the run that is at work on an output, None where none is. Takes no lock.

    A lock of another machine whose heartbeat is old is watched for a minute before it counts as dead.

    Raises:
        ConfigError, CommitError: The store has no locks or does not answer.
    """
    files = LockFiles.of(output)
    return next((lock for lock in reversed(files.all()) if not _is_dead(lock, files, heartbeat_s)), None)
