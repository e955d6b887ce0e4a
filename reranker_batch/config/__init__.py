"""The settings of a job: one strict model for the YAML file, the command line and the record of a run."""

from reranker_batch.config.checking import checked
from reranker_batch.config.job import JobConfig
from reranker_batch.config.sections import (
    BatchingConfig,
    Columns,
    InputConfig,
    LimitsConfig,
    ModelConfig,
    OutputConfig,
    RankingConfig,
    ReuseConfig,
    RuntimeConfig,
    Section,
)

__all__ = [
    "BatchingConfig",
    "Columns",
    "InputConfig",
    "JobConfig",
    "LimitsConfig",
    "ModelConfig",
    "OutputConfig",
    "RankingConfig",
    "ReuseConfig",
    "RuntimeConfig",
    "Section",
    "checked",
]
