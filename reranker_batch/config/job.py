"""All settings of a job, from a file and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from reranker_batch.config.config_file import ConfigFile
from reranker_batch.config.gates import GatesConfig, ReportConfig
from reranker_batch.config.prepare import PrepareConfig
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
from reranker_batch.uris import split_options

PREPARED_IN_OUTPUT = "run/input"
"""Where prepared input goes, below `output.path`."""
FOLDER_FORMATS = ("beir", "mteb", "trec")
"""Values of `input.format` for which `input.path` is a folder with a run, queries and documents."""


class JobConfig(ConfigFile):
    """All settings of a job.

    Build it from a file with `JobConfig.load`, from plain values with `JobConfig.of`.
    """

    input: InputConfig
    prepare: PrepareConfig = Field(default_factory=PrepareConfig)
    model: ModelConfig
    limits: LimitsConfig = Field(default_factory=LimitsConfig)
    ranking: RankingConfig = Field(default_factory=RankingConfig)
    output: OutputConfig
    batching: BatchingConfig = Field(default_factory=BatchingConfig)
    reuse: ReuseConfig = Field(default_factory=ReuseConfig)
    report: ReportConfig = Field(default_factory=ReportConfig)
    gates: GatesConfig = Field(default_factory=GatesConfig)
    runtime: RuntimeConfig = Field(default_factory=RuntimeConfig)

    @model_validator(mode="before")
    @classmethod
    def _input_is_prepared(cls, values: Any) -> Any:
        """With `prepare.run` the input is what is prepared, so that `input.path` is left out."""
        return with_prepared_path(values)

    @model_validator(mode="after")
    def _input_is_left_out(self) -> JobConfig:
        place = prepared_place(self.prepare.output, self.output.path)
        is_folder = self.input.format in FOLDER_FORMATS
        if self.prepare.is_wanted and self.input.path != place and not is_folder:
            raise ValueError(
                f"input.path={self.input.path} and prepare.run={self.prepare.run.path} are both inputs. Leave "
                f"input.path out: it is {place}, where the prepared input goes. To read what `redrive` wrote, set "
                "prepare.run: null"
            )
        return self

    @model_validator(mode="after")
    def _budget_holds_a_pair(self) -> JobConfig:
        budget, pair = self.batching.token_budget, self.limits.max_pair_tokens
        if budget is not None and pair is not None and budget < pair:
            raise ValueError(
                f"batching.max_batch_tokens={budget} is below limits.max_pair_tokens={pair}, so a full-length pair "
                "would never fit. Raise the budget or shorten the pairs"
            )
        return self

    @model_validator(mode="after")
    def _devices_agree(self) -> JobConfig:
        device, gpus = self.model.device, self.runtime.gpus_per_replica
        if gpus != "auto" and ((device == "cpu" and gpus > 0) or (device == "cuda" and gpus == 0)):
            raise ValueError(
                f"runtime.gpus_per_replica={gpus:g} contradicts model.device={device}. Set it to auto, or change the "
                "device"
            )
        return self

    @model_validator(mode="after")
    def _gates_can_be_measured(self) -> JobConfig:
        gates = self.gates
        for name in gates.on_movement:
            if self.earlier_output is None:
                raise ValueError(f"gates.{name} needs an earlier output: set report.compare_with or reuse.from")
        if gates.min_ndcg_at_10 is not None and self.report.qrels is None:
            raise ValueError("gates.min_ndcg_at_10 needs relevance judgments: set report.qrels")
        return self

    @property
    def earlier_output(self) -> str | None:
        """What the result is compared with: a place, or `latest:` and a place."""
        return self.report.compare_with or self.reuse.source


def prepared_place(prepare_output: str | None, output: str) -> str:
    """Where prepared input goes: `prepare.output`, or else inside the output."""
    if prepare_output is not None:
        return prepare_output
    plain, options = split_options(output)
    return f"{plain.rstrip('/')}/{PREPARED_IN_OUTPUT}{options}"


def with_prepared_path(values: Any) -> Any:
    """Plain values of a config, with the place of what is prepared for `input.path`, where something is."""
    if not isinstance(values, Mapping) or (place := _place_of(values)) is None:
        return values
    section = values.get("input") or {}
    return {**values, "input": {"path": place, **section}} if isinstance(section, Mapping) else values


def _place_of(values: Mapping[str, Any]) -> str | None:
    """Where plain values have their prepared input, None where they prepare nothing or are not what a config is."""
    prepare, output = values.get("prepare"), values.get("output") or {}
    if not isinstance(prepare, Mapping) or not isinstance(output, Mapping):
        return None
    run, place, path = prepare.get("run"), prepare.get("output"), output.get("path")
    is_wanted = run.get("path") is not None if isinstance(run, Mapping) else isinstance(run, str)
    if not is_wanted:
        return None
    if isinstance(place, str):
        return place
    return prepared_place(None, path) if isinstance(path, str) and place is None else None
