"""The settings of a job: one strict model for the YAML file, the command line and the record of a run."""

from reranker_batch.config.checking import checked
from reranker_batch.config.columns import Columns, ColumnsConfig, Reading
from reranker_batch.config.job import JobConfig
from reranker_batch.config.section import Section
from reranker_batch.config.sections import (
    BatchingConfig,
    InputConfig,
    LimitsConfig,
    ModelConfig,
    OutputConfig,
    RankingConfig,
    ReuseConfig,
    RuntimeConfig,
)

__all__ = [
    "BatchingConfig",
    "Columns",
    "ColumnsConfig",
    "InputConfig",
    "JobConfig",
    "LimitsConfig",
    "ModelConfig",
    "OutputConfig",
    "RankingConfig",
    "Reading",
    "ReuseConfig",
    "RuntimeConfig",
    "Section",
    "checked",
]
