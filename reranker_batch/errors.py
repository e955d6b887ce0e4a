"""Every exception of the package. The class says who acts.

RerankerBatchError
├── ConfigError      the user, before anything starts (exit code 2)
│   ├── FingerprintError   the output holds results of other settings
│   └── LockedError        another run is at work on the output
├── InputError       the user: a file cannot be used (exit code 2)
├── ModelError       the user: a model cannot be used as asked (exit code 2)
├── RowError         nobody: the row becomes a dead letter
├── ReplicaError     the driver: a model copy failed, the unit may succeed elsewhere
├── PairTooLongError the caller: the token budget does not hold one pair
├── ReuseRejectedError  the run: scores of an earlier output are not what the model gives now
├── CommitError      the operator: an output cannot be written or is not what its record says
└── StalledError     the operator: the run made no progress
"""

from __future__ import annotations

from reranker_batch.uris import redacted


class RerankerBatchError(Exception):
    """Root of all errors raised on purpose. The message says what, where and what to do; secrets of URIs are masked."""

    def __init__(self, message: str, *, unit_id: str | None = None) -> None:
        super().__init__(redacted(message))
        self.unit_id = unit_id

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), str(self), self.__dict__)


def _rebuild(cls: type[RerankerBatchError], message: str, state: dict[str, object]) -> RerankerBatchError:
    error = cls(message)
    error.__dict__.update(state)
    return error


class ConfigError(RerankerBatchError):
    """The settings contradict each other or ask for what is not there. Nothing was started."""


class FingerprintError(ConfigError):
    """The output folder holds results of settings or of an input that differ from these."""


class LockedError(ConfigError):
    """Another run holds the output."""


class InputError(RerankerBatchError):
    """A file of the input cannot be used."""


class ModelError(RerankerBatchError):
    """A model cannot be used as asked: not found, not a cross-encoder, unsafe, or broken."""


class RowError(RerankerBatchError):
    """One row cannot be scored. It becomes a dead letter with this reason."""

    def __init__(self, message: str, *, reason_code: str = "invalid_row", unit_id: str | None = None) -> None:
        super().__init__(message, unit_id=unit_id)
        self.reason_code = reason_code


class ReplicaError(RerankerBatchError):
    """A replica failed on a unit that another replica may finish."""


class ReuseRejectedError(RerankerBatchError):
    """Reused pairs, scored again, differ too much: the run goes on without scores of an earlier output."""


class CommitError(RerankerBatchError):
    """A part cannot be written, or what is written does not match its record."""


class StalledError(RerankerBatchError):
    """The run made no progress for longer than allowed."""


class PairTooLongError(RerankerBatchError):
    """One pair alone is over the token budget of a micro-batch."""


_MAX_CHARS = 300


def first_line(error: BaseException) -> str:
    """The first line of a message that a library wrote, without its full stop; the error's class where it is empty."""
    lines = str(error).strip().splitlines() or [""]
    return lines[0][:_MAX_CHARS].rstrip().rstrip(".") or type(error).__name__


def described(error: BaseException) -> str:
    """The class of an error that is not ours, and its first line."""
    name, line = type(error).__name__, first_line(error)
    return name if line == name else f"{name}: {line}"
