"""Tables that are converted before a run reads them: where to, and whether that is done."""

from __future__ import annotations

from dataclasses import dataclass

from reranker_batch.config import InputConfig, JobConfig
from reranker_batch.config.job import prepared_place
from reranker_batch.core.mapping import Mapper
from reranker_batch.preparing.conversion.convert import convert
from reranker_batch.preparing.conversion.record import ConversionFolder, ConversionRecord
from reranker_batch.preparing.preparation import Preparation
from reranker_batch.preparing.record import PreparedRecord
from reranker_batch.preparing.stages import OnProgress, ignore
from reranker_batch.preparing.table.source import Look, Source, look_at
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.run_state import RunState
from reranker_batch.storage.tables.growth import unpacked_bytes


@dataclass(frozen=True)
class Conversion:
    """A table that is not read as it is, and the folder of the input that it becomes."""

    source: Source
    goal: str
    lock: str
    """The output, whose lock guards the goal."""

    @classmethod
    def of(cls, config: JobConfig, look: Look) -> Conversion | None:
        """None where the files are read as they are."""
        if look.source is None:
            return None
        return cls(look.source, prepared_place(None, config.output.path), config.output.path)

    @property
    def is_complete(self) -> bool:
        """Raises CommitError when the record cannot be read."""
        record = ConversionFolder(Folder.at(self.goal)).read()
        return record is not None and record.parts is not None

    @property
    def num_files(self) -> int:
        """Of the source."""
        return len(self.source.files.files)

    def check_places(self) -> None:
        """Raises ConfigError for an output with files that are not ours: nothing is written there."""
        RunState(Folder.at(self.lock)).refuse_foreign()

    def size_bytes(self) -> int:
        """Of all files that are read, roughly as they unpack."""
        return unpacked_bytes(self.source.files)

    def run(self, each: Mapper, on_progress: OnProgress = ignore) -> ConversionRecord:
        """Convert, or finish what was begun; what is complete is left as it is. The caller has the lock.

        Raises:
            InputError: A row cannot be used. Names file and row.
            FingerprintError: The folder was converted from other files or with other settings.
            CommitError: A file cannot be written, or is not what the record says.
        """
        return convert(self.source, self.goal, each, on_progress)


def look_at_input(config: JobConfig) -> Look:
    """What the input of a job is. What `prepare` writes is read as it is.

    Raises:
        ConfigError, InputError: It cannot be used; the message says which columns may be meant.
    """
    preparation = Preparation.of(config)
    if preparation is None:
        return look_at(config.input)
    return Look(config.input.model_copy(update={"path": preparation.goal, "format": "auto"}))


def ready_input(config: JobConfig, look: Look) -> InputConfig:
    """What planning and reading use: the files themselves, or what they are converted to."""
    conversion = Conversion.of(config, look)
    return look.config if conversion is None else look.config.model_copy(update={"path": conversion.goal})


def making_of(config: JobConfig, look: Look) -> Preparation | Conversion | None:
    """What has to be made before the input is read, None where nothing has to.

    Raises:
        ConfigError: Nothing says where it goes.
    """
    return Preparation.of(config) or Conversion.of(config, look)


def make_ready(
    config: JobConfig, each: Mapper, on_progress: OnProgress = ignore
) -> PreparedRecord | ConversionRecord | None:
    """Make the input of a job, or finish that; None where it is read as it is. The caller has the lock.

    Raises:
        ConfigError, InputError: A table or a folder cannot be used.
        RerankerBatchError: It failed; the same call goes on from there.
    """
    making = making_of(config, look_at_input(config))
    return None if making is None else making.run(each, on_progress)
