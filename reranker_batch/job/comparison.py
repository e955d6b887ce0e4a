"""What a finished output is compared with: its first stage, an earlier output, relevance judgments."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from reranker_batch.config import JobConfig
from reranker_batch.core.counts import Counts
from reranker_batch.core.findings import Findings
from reranker_batch.core.fingerprint import fingerprint
from reranker_batch.core.mapping import Caught, Mapper, raised
from reranker_batch.core.report import RunReport
from reranker_batch.errors import CommitError, ConfigError
from reranker_batch.evaluation import Judgments, judgments_of, metrics_of, require_measures
from reranker_batch.storage.files.filesystem import Folder, absolute
from reranker_batch.storage.files.places import check_access, overlap
from reranker_batch.storage.input.qrels import read_qrels
from reranker_batch.storage.output.comparing import compare_outputs, compare_with_first_stage
from reranker_batch.storage.output.crash_points import reached
from reranker_batch.storage.output.latest import named_output
from reranker_batch.storage.output.manifest import Manifest
from reranker_batch.storage.output.run_state import MANIFEST
from reranker_batch.storage.output.status import output_status
from reranker_batch.uris import latest_folder

logger = logging.getLogger(__name__)

_FINISHED = ("complete", "accepted", "too_many_failed", "gated")

Result = TypeVar("Result")


@dataclass(frozen=True)
class Earlier:
    """A finished output. `parts_digest` is None where it is not there any more."""

    place: str
    parts_digest: str | None

    @property
    def folder(self) -> Folder:
        return Folder.at(self.place)

    @property
    def is_gone(self) -> bool:
        return self.parts_digest is None


@dataclass(frozen=True)
class Qrels:
    """Judgments, and where they are from."""

    place: str
    judgments: Judgments

    @property
    def digest(self) -> str:
        return fingerprint(self.judgments)


@dataclass(frozen=True)
class Comparison:
    """What the output of a run will be compared with, checked before the run starts."""

    output: Folder
    earlier: Earlier | None
    qrels: Qrels | None
    known: RunReport | None
    """The report of an earlier attempt."""

    @classmethod
    def open(cls, config: JobConfig, recorded: Manifest | None, known: RunReport | None) -> Comparison:
        """`recorded` is the manifest of the run, if it has begun: `latest:` stays what it was when it began.

        `known` is the report of an earlier attempt: what it says of an output that is gone by now still counts.

        Raises:
            ConfigError: The earlier output cannot be compared with, or ir-measures is not installed.
            InputError: The judgments cannot be read.
        """
        earlier, qrels = _find_earlier(config, recorded, known), config.report.qrels
        return cls(Folder.at(config.output.path), earlier, None if qrels is None else _open_qrels(qrels), known)

    @property
    def compared_with(self) -> str | None:
        """The earlier output, for the manifest."""
        return None if self.earlier is None else self.earlier.place

    def findings(self, report: RunReport, each: Mapper) -> Findings:
        """Movement and metrics of a whole output. What is on record is taken if nothing has changed since.

        `each` says where parts are read.

        Raises:
            ConfigError: The earlier output is not there any more.
            CommitError: A part of either output cannot be read.
        """
        known = None if self.known is None or self.known.parts != report.parts else self.known.findings
        if known is not None and self._is_from_these(known):
            return known
        earlier = self.earlier
        if earlier is not None and earlier.is_gone:
            raise _gone(earlier)
        logger.info("Comparing the rankings.")
        findings = Findings(
            compare_with_first_stage(self.output, each=each).to_dict(),
            None if earlier is None else self._movement(earlier, each),
            None if self.qrels is None else self._metrics(self.qrels, report.totals, each),
        )
        reached("rankings_compared")
        return findings

    def _is_from_these(self, known: Findings) -> bool:
        movement, metrics, earlier, qrels = known.movement or {}, known.metrics or {}, self.earlier, self.qrels
        places = (None, None) if earlier is None else (earlier.place, qrels and earlier.place)
        if (movement.get("compared_with"), metrics.get("compared_with")) != places:
            return False
        if earlier is not None and earlier.parts_digest not in (None, movement["parts_digest"]):
            return False
        judged = (None, None) if qrels is None else (qrels.place, qrels.digest)
        return (metrics.get("qrels"), metrics.get("qrels_digest")) == judged

    def _movement(self, earlier: Earlier, each: Mapper) -> dict[str, Any]:
        movement = _somewhere(each, partial(_compare, earlier.folder), self.output)
        return {"compared_with": earlier.place, "parts_digest": earlier.parts_digest, **movement.to_dict()}

    def _metrics(self, qrels: Qrels, totals: Counts, each: Mapper) -> dict[str, Any]:
        evaluate = partial(
            metrics_of,
            judgments=qrels.judgments,
            earlier=None if self.earlier is None else self.earlier.folder,
            keeps_all=totals.kept == totals.candidates,
        )
        values = _somewhere(each, evaluate, self.output)
        return {"qrels": qrels.place, "qrels_digest": qrels.digest, "compared_with": self.compared_with, **values}


def _gone(earlier: Earlier) -> ConfigError:
    return ConfigError(
        f"The earlier output {earlier.place} holds no run: run/{MANIFEST} is not there. Name a finished one in "
        "report.compare_with."
    )


def _compared_with(report: RunReport | None) -> list[str]:
    """The earlier output that a report tells of."""
    findings = None if report is None else report.findings
    return [] if findings is None or findings.movement is None else [findings.movement["compared_with"]]


def _compare(before: Folder, after: Folder) -> Any:
    return compare_outputs(before, after)


def _somewhere(each: Mapper, call: Callable[[Folder], Result], output: Folder) -> Result:
    """Wherever the engine computes, so that large outputs do not load this process."""
    (result,) = raised(each(Caught(call), [output]))
    return result


def _find_earlier(config: JobConfig, recorded: Manifest | None, known: RunReport | None) -> Earlier | None:
    """None where there is no earlier output, or the one of `reuse.from` cannot be used and no gate needs it."""
    try:
        place = _earlier_place(config, recorded)
        earlier = None if place is None else _open_earlier(place, config.output.path)
        if earlier is not None and earlier.is_gone and place not in _compared_with(known):
            raise _gone(earlier)
    except ConfigError as error:
        if config.report.compare_with is not None or config.gates.on_movement:
            raise
        logger.warning("The result is compared with the first stage alone. %s", error)
        return None
    return earlier


def _earlier_place(config: JobConfig, recorded: Manifest | None) -> str | None:
    asked = config.earlier_output
    if asked is None:
        return None
    folder = latest_folder(asked)
    if recorded is not None and folder is not None and recorded.config.earlier_output == asked:
        return recorded.compared_with
    check_access(asked if folder is None else folder)
    named = named_output(asked, exclude=config.output.path)
    return None if named is None else absolute(named)


def _open_earlier(place: str, output: str) -> Earlier:
    """Raises ConfigError for an output that cannot be compared with. One that is gone may be on record."""
    if overlap(place, output):
        raise ConfigError(f"The earlier output {place} is the output itself. Name another one.")
    try:
        status = output_status(place)
    except CommitError as error:
        raise ConfigError(f"The earlier output {place} cannot be compared with: {error}") from error
    if status.state == "no_run":
        return Earlier(place, None)
    if status.report is None or status.state not in _FINISHED:
        state = status.state.replace("_", " ")
        raise ConfigError(f"The earlier output {place} is not finished: {state}. {status.message}")
    return Earlier(place, fingerprint({part.unit_id: part.sha256 for part in status.report.parts}))


def _open_qrels(place: str) -> Qrels:
    require_measures()
    check_access(place)
    return Qrels(place, judgments_of(read_qrels(place)))
