"""What the preparation alone needs of a config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from reranker_batch.config.checking import checked
from reranker_batch.config.job import JobConfig, with_prepared_path
from reranker_batch.config.overrides import apply_override
from reranker_batch.config.prepare import PrepareConfig
from reranker_batch.config.section import Section
from reranker_batch.config.sections import InputConfig, OutputConfig, RuntimeConfig
from reranker_batch.config.yaml_file import read_config_file


class PrepareJob(Section):
    """The sections of a job that decide what is prepared, and where."""

    prepare: PrepareConfig
    input: InputConfig | None = None
    output: OutputConfig | None = None
    runtime: RuntimeConfig = Field(default_factory=RuntimeConfig)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> JobConfig | PrepareJob:
        """Check plain values: of a whole job where they have its model, else of a preparation alone.

        Raises:
            ConfigError: With one line for every wrong key or value.
        """
        if "model" in values:
            return JobConfig.of(values)
        return checked(cls, with_prepared_path(values), "The config is wrong")

    @classmethod
    def load(cls, path: str | Path, *, overrides: Iterable[str] = ()) -> JobConfig | PrepareJob:
        """Read a YAML file, as `JobConfig.load` does.

        Raises:
            ConfigError: File missing, not YAML, or a wrong key or value.
        """
        values = read_config_file(Path(path), JobConfig)
        for override in overrides:
            apply_override(values, override, JobConfig)
        return cls.of(values)
