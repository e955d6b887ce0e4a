"""An output that may be served, opened for reading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from reranker_batch.core.report import RunReport
from reranker_batch.errors import CommitError, ConfigError
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.manifest import Manifest
from reranker_batch.storage.output.parts import SCORES, part_name
from reranker_batch.storage.output.ranked_lists import list_parts, read_ranked_lists
from reranker_batch.storage.output.run_state import MANIFEST, RunState
from reranker_batch.storage.output.status import OutputStatus, output_status

_REMEDIES = {
    "too_many_failed": "`reranker-batch accept` lets it through.",
    "gated": "`reranker-batch accept` lets it through.",
    "interrupted": "The same `run` command resumes it.",
    "failed": "The same `run` command resumes it.",
}


@dataclass(frozen=True)
class FinishedOutput:
    """A complete or accepted output with its records."""

    folder: Folder
    report: RunReport
    manifest: Manifest

    @classmethod
    def open(cls, place: str) -> FinishedOutput:
        """Open an output whose parts are all there.

        Raises:
            ConfigError: It may not be served: there is no run, or it is not finished, or gated.
            CommitError: A record cannot be read, or the parts are not those of the report.
        """
        status = output_status(place)
        if not status.is_served or status.report is None:
            raise ConfigError(_why_not(status))
        state = RunState(Folder.at(place))
        values = state.read(MANIFEST)
        if values is None:
            raise CommitError(f"{state.path_of(MANIFEST)} is not there any more.")
        output = cls(state.output, status.report, Manifest.of(values, state.path_of(MANIFEST)))
        output._check_parts()
        return output

    @property
    def num_queries(self) -> int:
        return self.report.totals.queries

    @property
    def model(self) -> tuple[str, str | None]:
        model = self.manifest.config.model
        return model.name, model.revision

    def ranked_lists(self, columns: Sequence[str] = ("doc_id", "logit")) -> Iterator[pa.Table]:
        """See `read_ranked_lists`."""
        return read_ranked_lists(self.folder, columns=columns)

    def _check_parts(self) -> None:
        """A part that is missing or swapped must not go unnoticed; damaged pages are seen when they are read."""
        reported = {part_name(part.unit_id): part.size_bytes for part in self.report.parts}
        sizes = {info.base_name: info.size for info in list_parts(self.folder)}
        if differing := sorted(name for name in reported | sizes if reported.get(name) != sizes.get(name)):
            raise CommitError(
                f"{self.folder.uri} is not what its record says: {SCORES}/{differing[0]} is missing, changed or of no "
                "unit. `reranker-batch verify` lists all problems; the run's own command repairs parts."
            )


def _why_not(status: OutputStatus) -> str:
    said = f"{status.state.replace('_', ' ')}. {status.message}".strip().rstrip(".")
    return f"{status.output} is not exported: {said}. {_REMEDIES.get(status.state, '')}".rstrip()
