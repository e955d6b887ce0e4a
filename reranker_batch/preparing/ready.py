"""The input that planning and reading use, and making it where it is not there yet."""

from __future__ import annotations

from reranker_batch.config import InputConfig, JobConfig
from reranker_batch.core.mapping import Mapper
from reranker_batch.preparing.conversion_record import ConversionFolder, ConversionRecord
from reranker_batch.preparing.convert import OnProgress, convert, ignore
from reranker_batch.preparing.source import Look, look_at
from reranker_batch.storage.filesystem import Folder


def input_place(config: JobConfig) -> str:
    """Where input that has to be converted goes."""
    return Folder.at(config.output.path).folder("run").folder("input").uri


def ready_input(config: JobConfig, look: Look) -> InputConfig:
    """What is read for scoring: the files themselves, or what they are converted to."""
    return look.config if look.source is None else look.config.model_copy(update={"path": input_place(config)})


def is_ready(config: JobConfig, look: Look) -> bool:
    """Whether that is there, whole.

    Raises:
        CommitError: It is not what its record says.
    """
    if look.source is None:
        return True
    record = ConversionFolder(Folder.at(input_place(config))).read()
    return record is not None and record.parts is not None


def make_ready(config: JobConfig, each: Mapper, on_progress: OnProgress = ignore) -> ConversionRecord | None:
    """Convert an input that is not read as it is, or finish that; None where there is nothing to do.

    The caller has the lock of the output. Calling it again changes nothing.

    Raises:
        ConfigError, InputError: The input cannot be used.
        CommitError: A file cannot be written, or is not what the record says.
    """
    look = look_at(config.input)
    return None if look.source is None else convert(look.source, input_place(config), each, on_progress)
