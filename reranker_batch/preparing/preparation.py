"""What a config prepares, and where it goes."""

from __future__ import annotations

from dataclasses import dataclass

from reranker_batch.config import InputConfig, JobConfig
from reranker_batch.config.job import prepared_place
from reranker_batch.config.prepare import PrepareConfig
from reranker_batch.config.prepare_job import PrepareJob
from reranker_batch.core.mapping import Mapper
from reranker_batch.errors import ConfigError
from reranker_batch.preparing.joining.columns import run_form
from reranker_batch.preparing.joining.join import prepare_reference
from reranker_batch.preparing.joining.named_folders import prepare_settings
from reranker_batch.preparing.joining.rows import prepare_rows
from reranker_batch.preparing.record import PreparedFolder, PreparedRecord
from reranker_batch.preparing.stages import OnProgress, ignore
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.files.places import check_access, refuse_overlap
from reranker_batch.storage.tables.growth import unpacked_bytes
from reranker_batch.storage.tables.table_files import TableFiles, open_table


@dataclass(frozen=True)
class Preparation:
    """Tables to join or to group, and the folder of the result."""

    config: PrepareConfig
    source: InputConfig | None
    """How rows that carry their texts are read."""
    goal: str
    lock: str
    """The folder whose lock guards the goal: an output, or the goal itself."""

    @classmethod
    def of(cls, config: JobConfig | PrepareJob) -> Preparation | None:
        """None where the input is there already.

        Raises:
            ConfigError: Nothing says where the result goes.
            InputError: A folder that is prepared lacks a file.
        """
        prepare, output = prepare_settings(config), config.output
        if prepare is None:
            return None
        _refuse_unused(prepare)
        if prepare.output is not None:
            return cls(prepare, config.input, prepare.output, prepare.output)
        if output is None:
            raise ConfigError("Neither prepare.output nor output.path says where the prepared input goes. Set one.")
        return cls(prepare, config.input, prepared_place(None, output.path), output.path)

    def check_places(self) -> None:
        """Raises ConfigError for a place that cannot be reached, or that is read and written."""
        for key, place in self.config.places.items():
            for written in {self.goal, self.lock}:
                refuse_overlap(place, written, read_as=key, written_as="prepare.output")
        check_access(*self.config.places.values(), self.goal)

    @property
    def is_complete(self) -> bool:
        """Raises CommitError when the record cannot be read."""
        return self.record() is not None

    @property
    def num_files(self) -> int:
        """Of all tables that are read. Raises InputError where one cannot be listed."""
        return sum(len(table.files) for table in self._tables())

    def size_bytes(self) -> int:
        """Of all files that are read, roughly as they unpack. Raises InputError where one cannot be listed."""
        return sum(map(unpacked_bytes, self._tables()))

    def _tables(self) -> list[TableFiles]:
        forms = {"prepare.run": run_form(self.config)}
        return [open_table(place, form=forms.get(key, "auto"), key=key) for key, place in self.config.places.items()]

    def run(self, each: Mapper, on_progress: OnProgress = ignore) -> PreparedRecord:
        """Prepare, or finish what was begun; what is complete is left as it is. The caller has the lock.

        Raises:
            ConfigError, InputError: A table or a folder cannot be used.
            RerankerBatchError: It failed; the same call goes on from there.
        """
        if self.config.has_texts:
            return prepare_rows(self.config, self.source, self.goal, each, on_progress)
        return prepare_reference(self.config, self.goal, each, on_progress)

    def record(self) -> PreparedRecord | None:
        """Of a preparation that is complete. Raises CommitError when it cannot be read."""
        record = PreparedFolder(Folder.at(self.goal)).read()
        return record if record is not None and record.counts is not None else None


def _refuse_unused(prepare: PrepareConfig) -> None:
    """Raises ConfigError for what rows that carry their texts have no use for."""
    if not prepare.has_texts:
        return
    if prepare.run_format in ("trec", "msmarco"):
        raise ConfigError(
            f"prepare.run_format={prepare.run_format}: such a run has no texts. Set prepare.queries and prepare.corpus."
        )
    if unused := [key for key in ("score", "rank") if getattr(prepare.run, key) is not None]:
        raise ConfigError(
            f"prepare.run.{unused[0]}: rows that carry their texts keep their order in the files. Leave it out, or set "
            "prepare.queries and prepare.corpus where the rows have ids alone."
        )
